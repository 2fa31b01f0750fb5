"""What an engine runs: stages.

A `Solo` stage is one piece of work, a table in and a table out. A `Pooled` stage is many partitions, worked on by a
pool of workers that commit fragments as they go; `settle` ends it. Both write their manifest last.

`pipelines/curate.py` makes stages from a config; `pipelines/engines/` run them.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curation import upstream
from curation.config.base import BatchRun
from curation.errors import CurationError, StorageError
from curation.fingerprint import fingerprint
from curation.fragments import (
    Counts,
    Fragment,
    FragmentWriter,
    Manifest,
    committed,
    is_end,
    outcome_schema,
    read_manifest,
    settle_partition,
    write_manifest,
)
from curation.row import OUTCOME_FIELDS, Outcome, without_outcomes
from curation.storage import Folder

OUTCOME_NAMES = frozenset(f.name for f in OUTCOME_FIELDS)
COMMIT_ROWS = 1000
COMMIT_BYTES = 256_000_000
COMMIT_SECONDS = 60.0


@dataclass(frozen=True)
class Partition:
    """A unit of work: some fragments of the stage before."""

    index: int
    fragments: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Pool:
    """How many workers a stage wants, and what each takes."""

    workers: int
    cpus: float
    gpus: float = 0

    @classmethod
    def for_models(cls, run: BatchRun, cpus: float, gpus: float) -> Pool:
        """As many workers as `run` names; else one for each share of a GPU, or one for each core.

        Each takes one CPU, whatever its threads: a cluster's CPUs may stand in other machines than its GPUs, and a
        worker that wants more than any machine has would be waited for without end.
        """
        if not run.gpus:
            return cls(run.workers or max(1, int(cpus)), cpus=1)
        fit = int(gpus) * int(1 / run.gpus) if run.gpus < 1 else int(gpus / run.gpus)
        return cls(run.workers or max(1, fit), cpus=1, gpus=run.gpus)


def cores_each(workers: int) -> int:
    """Cores of this machine for each of so many workers on it."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


class Stage(ABC):
    """A stage of one run: its identity, its folder, and where its rows come from."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    """Changes whenever the stage's results change."""
    sums: ClassVar[tuple[str, ...]] = ()
    """Columns whose sums the stage reports."""

    def __init__(self, output: Folder, upstream: Stage | None, identity: dict[str, Any]) -> None:
        self.identity = {"version": self.version, **identity}
        self.upstream = upstream
        self.fingerprint: str = fingerprint(self.name, self.identity, upstream.fingerprint if upstream else None)
        self.folder = output.child(f"{self.name}-{self.fingerprint}")

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Schema of the stage's fragments, outcome columns included."""

    def manifest(self) -> Manifest | None:
        """The manifest, or None while the stage is unfinished."""
        return read_manifest(self.folder)

    def stale(self) -> bool:
        """Whether what is in the folder was made of another table than the stage before has."""
        return self.upstream is not None and upstream.is_stale(self.folder, self.upstream.folder)

    def begin(self) -> None:
        """To be called when the stage before is finished: what is stale goes."""
        if self.upstream is not None:
            upstream.begin(self.folder, self.upstream.folder)

    def clear(self) -> None:
        """Forget what was done."""
        upstream.clear(self.folder)

    def input(self) -> Manifest:
        """The manifest of the stage before."""
        assert self.upstream is not None
        manifest = self.upstream.manifest()
        assert manifest is not None, f"{self.upstream.name} is unfinished"
        return manifest

    def input_schema(self, added: Iterable[Any] = ()) -> pa.Schema:
        """Schema of the rows of the stage before, with the fields `added` and the outcome columns."""
        assert self.upstream is not None
        first = self.input().fragments[0].name
        fields = [f for f in self.upstream.folder.read_schema(first) if f.name not in OUTCOME_NAMES]
        return outcome_schema(fields, added)

    def check_models(self, online: bool) -> None:
        """Refuse models that cannot be loaded, before any work of the run starts. Raises ConfigError.

        Models on the hub are asked for only if `online`. Called for stages that are not finished.
        """

    def complete(self, fragments: tuple[Fragment, ...]) -> dict[str, Any]:
        """Write what stands beside the fragments, just before the manifest; returns the manifest's `extra`."""
        return {}

    def _write(self, fragments: Iterable[Fragment]) -> Manifest:
        fragments = tuple(sorted(fragments, key=lambda f: (f.partition, f.name)))
        manifest = Manifest(
            stage=self.name,
            fingerprint=self.fingerprint,
            settings=self.identity,
            upstream=self.upstream.folder.url.rsplit("/", 1)[-1] if self.upstream else None,
            counts=sum((f.counts for f in fragments), Counts()),
            fragments=fragments,
            extra=self.complete(fragments),
        )
        write_manifest(self.folder, manifest)
        return manifest


class Solo(Stage):
    """One piece of work, done in one process, redone whole after a crash."""

    @abstractmethod
    def build(self) -> list[Fragment]:
        """Write the fragments."""

    def run(self) -> Manifest:
        """Do the work, unless a manifest says that it is done."""
        for name in self.folder.sizes() if self.manifest() is None else ():
            if name != upstream.UPSTREAM:
                self.folder.delete(name)  # of a run that was killed: nothing names these files
        return self.manifest() or self._write(self.build())


class Pooled(Stage):
    """Many partitions, worked on by a pool."""

    target_rows: ClassVar[int] = 512
    """Fragments of the stage before are grouped until they hold this many rows. Part of what partition numbers mean."""
    stores_pixels: ClassVar[bool] = False
    """Its fragments have tars."""
    in_flight: int = 1
    """Partitions that one worker has open at once."""

    def __init__(self, output: Folder, upstream: Stage, identity: dict[str, Any]) -> None:
        super().__init__(output, upstream, {**identity, "target_rows": self.target_rows})

    @abstractmethod
    def pool(self, cpus: float, gpus: float) -> Pool:
        """Workers wanted on a cluster of `cpus` and `gpus`."""

    @abstractmethod
    def setup(self, workers: int, here: int | None = None) -> None:
        """Called once in each of `workers` workers before their first partition; at most `here` of them, or all, share
        this machine."""

    @abstractmethod
    def work(self, partition: Partition) -> AsyncIterator[Fragment]:
        """Do what is left of a partition; yields each fragment once it is committed."""

    @abstractmethod
    def close(self) -> None:
        """Give back what `setup` took."""

    def partitions(self) -> list[Partition]:
        """All partitions, a pure function of the manifest of the stage before."""
        groups: list[tuple[list[str], int]] = []
        for fragment in self.input().fragments:
            if not fragment.counts.kept:
                continue
            if not groups or groups[-1][1] + fragment.counts.kept > self.target_rows:
                groups.append(([], 0))
            names, rows = groups[-1]
            names.append(fragment.name)
            groups[-1] = (names, rows + fragment.counts.kept)
        return [Partition(i, tuple(names), rows) for i, (names, rows) in enumerate(groups)]

    def unfinished(self) -> list[Partition]:
        """Partitions without a fragment that ends them."""
        done = {p for p, names in committed(self.folder).items() if any(map(is_end, names))}
        return [p for p in self.partitions() if p.index not in done]

    def rows(self, partition: Partition) -> pa.Table:
        """The partition's live rows as the stage before left them, without outcomes."""
        assert self.upstream is not None
        return kept_rows(self.upstream.folder, partition.fragments)

    def settle(self) -> Manifest:
        """Check that each row has exactly one outcome, drop rows that were committed twice, write the manifest."""
        assert self.upstream is not None
        names = committed(self.folder)
        fragments = []
        for partition in self.partitions():
            uids = kept_rows(self.upstream.folder, partition.fragments, ["uid", "outcome"])["uid"]
            own = names.get(partition.index, [])
            fragments += settle_partition(self.folder, own, set(uids.to_pylist()), self.sums, self.stores_pixels)
        return self._write(fragments)


class RowStage(Pooled):
    """A pooled stage that works row by row, or batch by batch, and commits as rows finish."""

    commit_rows: int = COMMIT_ROWS
    """Rows after which a worker commits: what a crash may lose."""

    @abstractmethod
    def finish_rows(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        """`rows` with their outcomes, a few at a time and in any order; `image` too where the stage stores pixels."""

    async def work(self, partition: Partition) -> AsyncIterator[Fragment]:
        rows = self._pending(partition)
        writer = FragmentWriter(self.folder, partition.index, self.schema, self.sums)
        deadline = time.monotonic() + COMMIT_SECONDS
        finished = self.finish_rows(rows)
        try:
            async for table in finished:
                writer.add(table)
                if writer.rows >= self.commit_rows or writer.bytes >= COMMIT_BYTES or time.monotonic() >= deadline:
                    yield writer.commit(end=False)
                    deadline = time.monotonic() + COMMIT_SECONDS
            yield writer.commit(end=True)
        except StorageError:
            raise
        except (CurationError, asyncio.CancelledError):
            if writer.rows:  # they are finished, and perhaps paid for
                writer.commit(end=False)
            raise
        finally:
            writer.abandon()

    def _pending(self, partition: Partition) -> pa.Table:
        """Rows of the partition that no committed fragment has."""
        rows = self.rows(partition)
        names = committed(self.folder, partition.index).get(partition.index, [])
        if not names:
            return rows
        done = pa.concat_tables([self.folder.read_table(name, ["uid"]) for name in names])["uid"]
        return rows.filter(pc.invert(pc.is_in(rows["uid"], value_set=done.combine_chunks())))


def kept_rows(folder: Folder, names: Sequence[str], columns: list[str] | None = None) -> pa.Table:
    """The kept rows of some fragments, without outcome columns."""
    tables = [folder.read_table(name, columns) for name in names]
    table = pa.concat_tables(tables)
    kept = pc.equal(table["outcome"], Outcome.KEPT.value)
    return without_outcomes(table if pc.all(kept).as_py() else table.filter(kept))
