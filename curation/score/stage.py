"""The score stage: runs the operators that a config names over the image bank, in batches, on a pool of workers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from curation.bank import ImageBank
from curation.config import ScoreSettings
from curation.models import limit_threads
from curation.op import ImageOperator
from curation.row import IMAGE, KEPT, SCORE_US, Outcome, Reason, Verdict, with_outcomes, without_outcomes
from curation.score.model import ModelOperator
from curation.score.operators import Scorer, check_columns, name_operators
from curation.score.read import Batch, Reader
from curation.stage import Pool, RowStage, Stage, cores_each
from curation.storage import Folder

log = logging.getLogger(__name__)


class ScoreStage(RowStage):
    """Adds the columns of its operators to every row."""

    name = "score"
    version = "2"

    def __init__(self, output: Folder, upstream: Stage, settings: ScoreSettings, bank: Folder) -> None:
        self.settings = settings
        self.bank = bank
        self.named = name_operators(settings)
        self.operators: list[tuple[str, Scorer]] = []
        super().__init__(output, upstream, {"operators": [named.identity for named in self.named]})

    @property
    def added(self) -> list[pa.Field]:
        """Columns that it writes."""
        # What a worker has set up knows best: an embedding's width stands in the model's configuration.
        operators = [operator for _, operator in self.operators] or self.named
        return [*(column for operator in operators for column in operator.writes), SCORE_US]

    @property
    def schema(self) -> pa.Schema:
        return self.input_schema(self.added)

    def check(self, schema: pa.Schema) -> None:
        """Refuse operators that read columns which are not there, or write ones which are. Raises ConfigError."""
        check_columns(self.named, schema.append(SCORE_US))

    def check_models(self, online: bool) -> None:
        for named in self.named:
            named.check(online)

    def pool(self, cpus: float, gpus: float) -> Pool:
        return Pool.for_models(self.settings.run, cpus, gpus)

    def setup(self, workers: int, here: int | None = None) -> None:
        self.operators = [(named.name, named.make()) for named in self.named]
        models = [operator for _, operator in self.operators if isinstance(operator, ModelOperator)]
        threads = cores_each(here or workers)
        if models:
            limit_threads(threads)
        for model in models:
            model.threads = threads
        for _, operator in self.operators:
            operator.setup()
        sides = [operator.side for _, operator in self.operators if isinstance(operator, ImageOperator)]
        self._bytes = any(IMAGE.name in operator.reads for _, operator in self.operators)
        self._pixels = self._bytes or bool(sides)
        self.reader = Reader(ImageBank(self.bank), threads, max(sides, default=None))

    async def finish_rows(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        started, us = time.perf_counter(), Counter[str]()
        size = self.settings.run.batch
        batches = self.reader.batches(rows, size) if self._pixels else _plain(rows, size)
        for batch in batches:
            yield self._score(batch, us)
        seconds = time.perf_counter() - started
        each = ", ".join(f"{name} {rows.num_rows / spent * 1e6:.1f}" for name, spent in us.items() if spent)
        log.info("scored %d images at %.1f images/s (%s)", rows.num_rows, rows.num_rows / max(seconds, 1e-6), each)

    def _score(self, batch: Batch, total: Counter[str]) -> pa.Table:
        """The batch's rows with columns and outcomes; adds the microseconds that each operator took to `total`."""
        live, dropped = batch.rows, []
        images: list[Image.Image] = []
        spent: list[tuple[str, int]] = []
        if self._pixels:
            live, damaged = self._with_pixels(batch)
            dropped.append(damaged)
            images = [loaded.image for loaded in batch.loaded if loaded.image is not None]
            _note(spent, total, "decode", sum(loaded.us for loaded in batch.loaded), live.num_rows)
        for name, operator in self.operators:
            if not live.num_rows:
                break
            started = time.perf_counter()
            rows = live.num_rows
            live, images, failed = _apply(operator, live, images)
            _note(spent, total, name, round((time.perf_counter() - started) * 1e6), rows)
            dropped.append(_with_times(failed, spent))
        tables = [_with_times(with_outcomes(live, [KEPT] * live.num_rows), spent), *dropped]
        return pa.concat_tables(
            [t.drop_columns([IMAGE.name]) if IMAGE.name in t.column_names else t for t in tables],
            promote_options="default",
        )

    def _with_pixels(self, batch: Batch) -> tuple[pa.Table, pa.Table]:
        """Rows whose pixels are sound (with `image` where an operator reads it), and the others with their outcomes."""
        good = pa.array([loaded.error is None for loaded in batch.loaded], pa.bool_())
        live, damaged = batch.rows.filter(good), batch.rows.filter(pc.invert(good))
        if self._bytes:
            pixels = [loaded.data for loaded in batch.loaded if loaded.error is None]
            live = live.append_column(IMAGE, pa.array(pixels, IMAGE.type))
        errors = [loaded.error for loaded in batch.loaded if loaded.error is not None]
        return live, with_outcomes(damaged, [Verdict(Reason.BANK_DAMAGED, error) for error in errors])

    def close(self) -> None:
        for _, operator in self.operators:
            operator.close()
        if hasattr(self, "reader"):
            self.reader.close()


def _plain(rows: pa.Table, size: int) -> Iterator[Batch]:
    for start in range(0, rows.num_rows, size):
        yield Batch(rows.slice(start, size))


def _note(spent: list[tuple[str, int]], total: Counter[str], name: str, us: int, rows: int) -> None:
    spent.append((name, us // max(rows, 1)))
    total[name] += us


def _with_times(rows: pa.Table, spent: list[tuple[str, int]]) -> pa.Table:
    times = [{"op": name, "us": us} for name, us in spent]
    return rows.append_column(SCORE_US, pa.array([times] * rows.num_rows, SCORE_US.type))


def _apply(
    operator: Scorer, live: pa.Table, images: Sequence[Image.Image]
) -> tuple[pa.Table, list[Image.Image], pa.Table]:
    """Run one operator: the rows that go on and their pictures, and the rows that it failed (with their outcomes)."""
    name = type(operator).__qualname__
    result = operator.process(live, images) if isinstance(operator, ImageOperator) else operator.process(live)
    assert result["uid"].equals(live["uid"]), f"{name} changed the order or the number of rows"
    if "outcome" not in result.column_names:
        return result, list(images), result.slice(0, 0)
    assert not set(result["outcome"].to_pylist()) - {Outcome.KEPT, Outcome.FAILED}, f"{name} may not reject rows"
    kept = pc.equal(result["outcome"], Outcome.KEPT.value)
    going = [image for image, stays in zip(images, kept.to_pylist(), strict=False) if stays]
    return without_outcomes(result.filter(kept)), going, result.filter(pc.invert(kept))
