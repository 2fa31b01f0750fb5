"""Layout: which sample goes into which bucket, which shard, and where in it. No pixels are touched.

Samples stand in the order of a keyed hash of their uid, so every shard is a random sample of the corpus, and cutting a
corpus at another place moves no sample past another. One fragment is one shard, its rows in order; fragments of rows
that no shard gets come last. `stage.py` reads one fragment at a time.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.bank import ImageBank
from curation.config import PackSettings
from curation.fingerprint import result_settings
from curation.fragments import Fragment, FragmentWriter
from curation.pack.buckets import targets
from curation.pack.captions import caption_column
from curation.pack.encode import use_one_thread
from curation.pack.estimate import CALIBRATION_SAMPLES, calibrate
from curation.pack.sample import SampleMaker
from curation.row import KEPT, PACK_FIELDS, Reason, Verdict, with_outcomes, without_outcomes
from curation.sort import Pile, sort_tables
from curation.stage import Solo, Stage, kept_rows
from curation.storage import Folder

SHARD_SAMPLES = 1000
DROPPED_ROWS = 10_000
"""Rows of a fragment of rows that no shard gets."""
_BUCKET, _SHARD = PACK_FIELDS
_REASON = pa.field("reason", pa.string())
_KEYS = [pa.field("curate:first", pa.uint64()), pa.field("curate:last", pa.uint64())]
"""The two halves of a row's keyed hash."""

Weights = Callable[[pa.Table], list[int]]


class Layout(Solo):
    """The order, the buckets and the shards of a corpus."""

    name = "layout"

    def __init__(self, output: Folder, upstream: Stage, settings: PackSettings, seed: int, bank: Folder) -> None:
        identity = result_settings(settings)
        if settings.shard_bytes is None:  # then nothing here looks at how images are encoded
            identity = {k: v for k, v in identity.items() if k not in ("filter", "format", "quality")}
        super().__init__(output, upstream, {**identity, "seed": seed})
        self._settings = settings
        self._seed = seed
        self._bank = bank

    @property
    def schema(self) -> pa.Schema:
        return self.input_schema(PACK_FIELDS)

    def build(self) -> list[Fragment]:
        """Judge the rows, put them in order, cut them. Raises ConfigError if the primary caption is not there."""
        rows = without_outcomes(self.schema.empty_table()).drop_columns([_SHARD.name]).schema
        maker = SampleMaker(rows, self._settings)
        judged = pa.schema([*rows, _REASON, *_KEYS])
        with (
            tempfile.TemporaryDirectory(prefix="curate-layout-", ignore_cleanup_errors=True) as scratch,
            Pile(Path(scratch, "dropped"), rows.append(_REASON)) as dropped,
        ):
            ordered = sort_tables(
                self._judged(judged), [key.name for key in _KEYS], 2.0**64, self.input().counts.kept, Path(scratch)
            )
            fragments = []
            for index, shard in enumerate(self._cut(_live(ordered, dropped), maker)):
                name = pa.array([f"{index:05d}"] * shard.num_rows, pa.string())
                fragments.append(self._commit(index, shard.append_column(_SHARD, name), [KEPT] * shard.num_rows))
            for table in cut(dropped.take(), lambda table: [1] * table.num_rows, DROPPED_ROWS):
                told = table.select([_REASON.name, "width", "height", _BUCKET.name]).to_pylist()
                verdicts = [self._verdict(row) for row in told]
                fragments.append(self._commit(len(fragments), table.drop_columns([_REASON.name]), verdicts))
        return fragments

    def _judged(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows of the stage before with their `bucket`, their keys, and the `reason` why a row is dropped or null.

        The order is by MD5 of "SEED:UID".
        """
        assert self.upstream is not None
        yield schema.empty_table()
        for fragment in self.input().fragments:
            if not fragment.counts.kept:
                continue
            table = kept_rows(self.upstream.folder, [fragment.name])
            widths, heights = (np.array(table[name].to_pylist(), np.int64) for name in ("width", "height"))
            found = targets(widths, heights, self._settings)
            captions = pc.utf8_trim_whitespace(table[caption_column(self._settings.primary)].cast(pa.string()))
            empty = pc.fill_null(pc.equal(captions, ""), True)
            reason = pc.if_else(
                empty,
                pa.scalar(Reason.NO_CAPTION.value),
                pc.if_else(
                    pa.array(found.too_small), pa.scalar(Reason.SMALLER_THAN_BUCKET.value), pa.scalar(None, pa.string())
                ),
            )
            hashes = b"".join(hashlib.md5(f"{self._seed}:{uid}".encode()).digest() for uid in table["uid"].to_pylist())
            keys = np.frombuffer(hashes, ">u8").astype(np.uint64).reshape(-1, len(_KEYS))
            table = table.append_column(_BUCKET, pa.array(found.names(), pa.string())).append_column(_REASON, reason)
            for key, values in zip(_KEYS, keys.T, strict=True):
                table = table.append_column(key, pa.array(values))
            yield table.select(schema.names).cast(schema)

    def _verdict(self, row: dict[str, str | int]) -> Verdict:
        if row["reason"] == Reason.NO_CAPTION:
            return Verdict(Reason.NO_CAPTION, f"no caption of kind {self._settings.primary}")
        return Verdict(Reason.SMALLER_THAN_BUCKET, f"{row['width']}x{row['height']} for {row['bucket']}")

    def _cut(self, tables: Iterator[pa.Table], maker: SampleMaker) -> Iterator[pa.Table]:
        limit = self._settings.shard_bytes
        if limit is None:
            return cut(tables, lambda table: [1] * table.num_rows, self._settings.shard_samples or SHARD_SAMPLES)
        head: list[pa.Table] = []
        while sum(table.num_rows for table in head) < CALIBRATION_SAMPLES and (table := next(tables, None)) is not None:
            head.append(table)
        if not head:
            return iter(())
        use_one_thread()
        sample = pa.concat_tables(head).slice(0, CALIBRATION_SAMPLES)
        return cut(chain(head, tables), calibrate(sample, ImageBank(self._bank), maker).of, limit)

    def _commit(self, index: int, table: pa.Table, verdicts: list[Verdict]) -> Fragment:
        writer = FragmentWriter(self.folder, index, self.schema, token=self.fingerprint[:8])
        writer.add(with_outcomes(table, verdicts))
        return writer.commit(end=True)


def _live(judged: Iterator[pa.Table], dropped: Pile) -> Iterator[pa.Table]:
    """The rows without a reason; the others go to `dropped`. Both in order, without keys."""
    for table in judged:
        table = table.drop_columns([key.name for key in _KEYS])
        is_live = pc.is_null(table[_REASON.name])
        dropped.add(table.filter(pc.invert(is_live)))
        if (live := table.filter(is_live)).num_rows:
            yield live.drop_columns([_REASON.name])


def cut(tables: Iterable[pa.Table], weights: Weights, limit: int) -> Iterator[pa.Table]:
    """The rows of `tables`, in order, in pieces of as many rows as weigh `limit` together; never an empty piece."""
    held: list[pa.Table] = []
    weight = 0
    for table in tables:
        start = 0
        for row, more in enumerate(weights(table)):
            if weight and weight + more > limit:
                yield pa.concat_tables([*held, table.slice(start, row - start)])
                held, start, weight = [], row, 0
            weight += more
        held.append(table.slice(start))
    if weight:
        yield pa.concat_tables(held)
