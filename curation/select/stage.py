"""Select as a stage: reads the rows that the stage before kept, lets `decide` decide, writes each with its outcome.

Two passes over Parquet: the first reads the few columns that decide, the second copies whole rows a fragment at a
time, so memory does not grow with the table (except as `near` and `semantic` say). Rows that stay carry their columns
on, but for those of `STAYS`; of a dropped row only its name, source and address are written again. The stage before has
the rest.
`pipelines/curate.py` makes this stage.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.config import SelectSettings
from curation.fingerprint import result_settings
from curation.fragments import Counts, Fragment, conform, outcome_schema
from curation.row import OUTCOME_FIELDS, STAYS, Outcome, Reason
from curation.select.decide import REASONS, Decided, Decision
from curation.select.rules import check_rules
from curation.stage import Solo, Stage, kept_rows
from curation.storage import Folder

__all__ = ["Select", "check_rules"]

CARRIED = ("uid", "source", "url")
"""Columns of dropped rows."""

# Fragments are what later stages share out among workers: at least a few hundred of them where the table allows, none
# so large that it weighs on memory.
FRAGMENTS = 256
MIN_ROWS = 256
MAX_ROWS = 16_384

WORKERS = min(max(8, os.cpu_count() or 1), 16)
"""Threads that read and write fragments: more than cores, for much of a commit is waiting for the disk."""


@dataclass(frozen=True)
class Group:
    """Some consecutive fragments of the stage before, and the partitions that they become."""

    names: tuple[str, ...]
    start: int
    """Number of the first of their kept rows, among all kept rows."""
    rows: int
    partition: int
    """The first of its partitions."""
    partitions: int


class Select(Solo):
    """Rules over columns; see `curation.select.decide` for their order."""

    name: ClassVar[str] = "select"

    def __init__(self, output: Folder, upstream: Stage, settings: SelectSettings) -> None:
        super().__init__(output, upstream, result_settings(settings))
        self.settings = settings
        self._details = {
            Reason.WHERE: " ".join((settings.where or "").split())[:500],
            Reason.BELOW_TOP: f"not among the {settings.top} highest by {settings.by}"[:500],
        }

    @property
    def schema(self) -> pa.Schema:
        left = STAYS.union(field.name for field in OUTCOME_FIELDS)
        # What a dropped row does not carry is null.
        fields = [f if f.name in CARRIED else f.with_nullable(True) for f in self.input_schema() if f.name not in left]
        return outcome_schema(fields)

    def build(self) -> list[Fragment]:
        """Decide, then write. Rows keep the order of the stage before, in each fragment those that stay first."""
        groups = self._groups()
        with (
            tempfile.TemporaryDirectory(prefix="curation-select-") as scratch,
            Decision(self.settings, self.input_schema(), scratch) as decision,
            ThreadPoolExecutor(WORKERS) as pool,
        ):
            for rows in _ahead(pool, lambda group: self._read(group, decision.columns), groups):
                decision.add(rows)
            decision.resolve()
            work = ((group, decision.outcomes(group.start, group.rows)) for group in groups)
            return [f for fragments in _ahead(pool, lambda item: self._write_group(*item), work) for f in fragments]

    def _groups(self) -> list[Group]:
        """The input's fragments in groups of about as many rows as a fragment of the output shall have."""
        manifest = self.input()
        target = min(max(manifest.counts.kept // FRAGMENTS, MIN_ROWS), MAX_ROWS)
        batches: list[tuple[list[str], int]] = []
        for fragment in manifest.fragments:
            if not fragment.counts.kept:
                continue
            if not batches or batches[-1][1] + fragment.counts.kept > target:
                batches.append(([], 0))
            names, rows = batches[-1]
            batches[-1] = ([*names, fragment.name], rows + fragment.counts.kept)
        groups: list[Group] = []
        start = partition = 0
        for names, rows in batches:
            groups.append(Group(tuple(names), start, rows, partition, -(-rows // target)))
            start, partition = start + rows, partition + groups[-1].partitions
        return groups

    def _read(self, group: Group, columns: Iterable[str]) -> pa.Table:
        assert self.upstream is not None
        return kept_rows(self.upstream.folder, group.names, [*columns, "outcome"])

    def _write_group(self, group: Group, decided: Decided) -> list[Fragment]:
        stays = decided.codes == 0
        columns = self.schema.names[: -len(OUTCOME_FIELDS)] if stays.any() else CARRIED
        rows = self._read(group, columns)
        fragments = []
        for i in range(group.partitions):
            low, high = group.rows * i // group.partitions, group.rows * (i + 1) // group.partitions
            part = Decided(decided.codes[low:high], decided.winners[low:high])
            # The name is a function of the stage and the place, so that a manifest is one of its input.
            name = f"p{group.partition + i:06d}-{self.fingerprint[:8]}-end.parquet"
            self.folder.write_table(name, self._with_outcomes(rows[low:high], part))
            fragments.append(Fragment(name, _counts(part.codes)))
        return fragments

    def _with_outcomes(self, rows: pa.Table, decided: Decided) -> pa.Table:
        stays = decided.codes == 0
        kept, dropped = rows.filter(stays), rows.select(CARRIED).filter(~stays)
        codes = pa.array(decided.codes[~stays])
        winners = decided.winners.filter(pa.array(~stays))
        details = pa.array([self._details.get(reason) if reason else None for reason in REASONS], pa.string())
        dropped = pa.table(
            {
                **{name: dropped[name] for name in CARRIED},
                "outcome": pa.repeat(Outcome.REJECTED.value, len(codes)),
                "reason": pa.array(REASONS, pa.string()).take(codes),
                "detail": pc.coalesce(winners, details.take(codes)),
            }
        )
        kept = kept.append_column("outcome", pa.repeat(Outcome.KEPT.value, kept.num_rows))
        return conform(pa.concat_tables([kept, dropped], promote_options="default"), self.schema)


def _counts(codes: np.ndarray[Any, np.dtype[np.uint8]]) -> Counts:
    found = np.bincount(codes, minlength=len(REASONS)).tolist()
    reasons = {reason.value: n for reason, n in zip(REASONS, found, strict=True) if reason and n}
    return Counts(len(codes), kept=found[0], rejected=len(codes) - found[0], reasons=dict(sorted(reasons.items())))


Item = TypeVar("Item")
Result = TypeVar("Result")


def _ahead(pool: ThreadPoolExecutor, do: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(do, items)` on the pool, in order; items and results that wait are few."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(do, item))
            if len(waiting) > WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
