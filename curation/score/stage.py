"""The score stage: runs the operators that a config names over the image bank, in batches, on a pool of workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.bank import ImageBank
from curation.config import ScoreSettings
from curation.errors import ConfigError, CorruptionError
from curation.fingerprint import result_settings
from curation.op import BatchOperator, Cost, load_operator
from curation.row import IMAGE, KEPT, Outcome, Reason, Verdict, with_outcomes, without_outcomes
from curation.stage import Pool, RowStage, Stage
from curation.storage import Folder


@dataclass(frozen=True)
class _Named:
    setting: str
    cls: type[BatchOperator]


class ScoreStage(RowStage):
    """Adds the columns of its operators to every row."""

    name = "score"
    cost = Cost.CPU

    def __init__(self, output: Folder, upstream: Stage, settings: ScoreSettings, bank: Folder) -> None:
        self.settings = settings
        self.bank = bank
        self.classes = [
            _Named(f"stages.score.ops.{i}", load_operator(path, f"stages.score.ops.{i}"))
            for i, path in enumerate(settings.ops)
        ]
        versions = [named.cls.version for named in self.classes]
        super().__init__(output, upstream, {**result_settings(settings), "versions": versions})

    @property
    def schema(self) -> pa.Schema:
        return self.input_schema([field for named in self.classes for field in named.cls.writes])

    def check(self, schema: pa.Schema) -> None:
        """Refuse operators that read columns which are not there, or write ones which are. Raises ConfigError."""
        names = {*schema.names, IMAGE.name}
        for named in self.classes:
            missing = [column for column in named.cls.reads if column not in names]
            if missing:
                raise ConfigError(named.setting, f"reads columns that are not there: {', '.join(missing)}")
            clash = [field.name for field in named.cls.writes if field.name in names]
            if clash:
                raise ConfigError(named.setting, f"writes columns that exist already: {', '.join(clash)}")
            names.update(field.name for field in named.cls.writes)

    def pool(self, cpus: float, gpus: float) -> Pool:
        run = self.settings.run
        if run.gpus:
            return Pool(run.workers or max(1, int(gpus / run.gpus)), cpus=1, gpus=run.gpus)
        return Pool(run.workers or max(1, int(cpus)), cpus=1)

    def setup(self, workers: int) -> None:
        self.operators = [named.cls() for named in self.classes]
        for operator in self.operators:
            operator.setup()

    async def finish_rows(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        for start in range(0, rows.num_rows, self.settings.run.batch):
            yield self._score(rows.slice(start, self.settings.run.batch))

    def _score(self, live: pa.Table) -> pa.Table:
        dropped = []
        if any(IMAGE.name in operator.reads for operator in self.operators):
            live, damaged = self._with_pixels(live)
            dropped.append(damaged)
        for operator in self.operators:
            live, failed = _apply(operator, live)
            dropped.append(failed)
        tables = [with_outcomes(live, [KEPT] * live.num_rows), *dropped]
        return pa.concat_tables(
            [t.drop_columns([IMAGE.name]) if IMAGE.name in t.column_names else t for t in tables],
            promote_options="default",
        )

    def _with_pixels(self, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Rows with their `image`, and those whose stored bytes are damaged (with their outcomes)."""
        images = ImageBank(self.bank).read_rows(rows)
        errors = [str(image) if isinstance(image, CorruptionError) else None for image in images]
        good = pa.array([error is None for error in errors])
        damaged = rows.filter(pc.invert(good))
        verdicts = [Verdict(Reason.BANK_DAMAGED, error) for error in errors if error is not None]
        pixels = [image for image in images if isinstance(image, bytes)]
        live = rows.filter(good).append_column(IMAGE, pa.array(pixels, IMAGE.type))
        return live, with_outcomes(damaged, verdicts)

    def close(self) -> None:
        for operator in self.operators:
            operator.close()


def _apply(operator: BatchOperator, live: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Run one operator: the rows that go on, and those that it failed (with their outcomes, without pixels)."""
    name = type(operator).__qualname__
    result = operator.process(live)
    assert result["uid"].equals(live["uid"]), f"{name} changed the order or the number of rows"
    if "outcome" not in result.column_names:
        result = with_outcomes(result, [KEPT] * result.num_rows)
    assert not set(result["outcome"].to_pylist()) - {Outcome.KEPT, Outcome.FAILED}, f"{name} may not reject rows"
    kept = pc.equal(result["outcome"], Outcome.KEPT.value)
    return without_outcomes(result.filter(kept)), result.filter(pc.invert(kept))
