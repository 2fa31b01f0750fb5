"""The commit protocol: how a stage's rows reach the disk, and how a run that was killed goes on.

A stage's folder holds immutable fragments. `pPPPPPP-TOKEN.parquet` has some rows of partition PPPPPP with their
outcomes; `pPPPPPP-TOKEN.tar` has the pixels of its kept rows. The tar is renamed into place first, the parquet last:
**the parquet's appearance is the commit**. The fragment that completes its partition ends in `-end`, so resume reads
the uids of unfinished partitions only. `manifest.json` comes last, once: it names the fragments that count, in which
each row stands exactly once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import CorruptionError
from curation.row import IMAGE, OUTCOME_FIELDS, Outcome
from curation.storage import Folder
from curation.tar import NewTar

MANIFEST = "manifest.json"
FRAGMENT = re.compile(r"p(?P<partition>\d{6,})-(?P<token>[0-9a-f]{8})(?P<end>-end)?\.parquet")


@dataclass(frozen=True)
class Counts:
    """Rows by outcome, reasons, and the sums of some columns (bytes received, say)."""

    rows: int = 0
    kept: int = 0
    rejected: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.kept + other.kept,
            self.rejected + other.rejected,
            self.failed + other.failed,
            dict(sorted((Counter(self.reasons) + Counter(other.reasons)).items())),
            {name: self.sums.get(name, 0) + other.sums.get(name, 0) for name in sorted({*self.sums, *other.sums})},
        )

    @classmethod
    def of(cls, table: pa.Table, sums: Iterable[str] = ()) -> Counts:
        """Counts of a table with outcome columns, and the sums of its columns `sums`."""
        outcomes = Counter(table["outcome"].to_pylist())
        reasons = Counter(r for r in table["reason"].to_pylist() if r is not None)
        return cls(
            table.num_rows,
            outcomes[Outcome.KEPT],
            outcomes[Outcome.REJECTED],
            outcomes[Outcome.FAILED],
            dict(sorted(reasons.items())),
            {name: pc.sum(table[name]).as_py() or 0 for name in sums},
        )


@dataclass(frozen=True)
class Fragment:
    """A committed fragment."""

    name: str
    """File name of its parquet."""
    counts: Counts
    tar: str | None = None
    """File name of its tar, if it has pixels."""
    tar_bytes: int = 0

    @property
    def partition(self) -> int:
        return partition_of(self.name)


@dataclass(frozen=True)
class Manifest:
    """What a finished stage says of itself. Nothing in it depends on time or on the number of workers."""

    stage: str
    fingerprint: str
    settings: dict[str, Any]
    upstream: str | None
    """Folder name of the stage before."""
    counts: Counts
    fragments: tuple[Fragment, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    """What only this stage has to say (pack: `corpus`, the description of the shards)."""
    format: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        fragments = tuple(
            Fragment(f["name"], Counts(**f["counts"]), f["tar"], f["tar_bytes"]) for f in data["fragments"]
        )
        return cls(**{**data, "counts": Counts(**data["counts"]), "fragments": fragments})


def read_manifest(folder: Folder) -> Manifest | None:
    """The stage's manifest, or None while the stage is unfinished."""
    return Manifest.from_json(folder.read_json(MANIFEST)) if folder.exists(MANIFEST) else None


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    folder.write_json(MANIFEST, manifest.to_json())


def partition_of(name: str) -> int:
    match = FRAGMENT.fullmatch(name)
    assert match, name
    return int(match["partition"])


def committed(folder: Folder, partition: int | None = None) -> dict[int, list[str]]:
    """Fragment names in `folder` by partition, sorted; of one `partition` alone if it is given."""
    found: dict[int, list[str]] = {}
    for name in folder.names("p" if partition is None else f"p{partition:06d}-"):
        if FRAGMENT.fullmatch(name):
            found.setdefault(partition_of(name), []).append(name)
    return found


def is_end(name: str) -> bool:
    """True for the fragment that completes its partition."""
    return name.endswith("-end.parquet")


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns of `schema`, in its order; missing ones are null."""
    columns = []
    for f in schema:
        if f.name in table.column_names:
            columns.append(table[f.name].cast(f.type))
        else:
            columns.append(pa.nulls(table.num_rows, f.type))
    return pa.table(columns, schema=schema)


class FragmentWriter:
    """Gathers finished rows of one partition and commits them, a fragment at a time.

    Pixels go to the temporary tar as they come, so memory holds rows only. A `token` may be given where a partition
    is one fragment that is always the same: its name, and so the manifest, then depends on nothing but its rows.
    """

    def __init__(
        self,
        folder: Folder,
        partition: int,
        schema: pa.Schema,
        sums: Iterable[str] = (),
        *,
        token: str | None = None,
    ) -> None:
        assert token is None or re.fullmatch(r"[0-9a-f]{8}", token), token
        self._given_token = token
        self._folder = folder
        self._sums = tuple(sums)
        self._partition = partition
        self._schema = schema
        self._rows: list[pa.Table] = []
        self._tar: NewTar | None = None
        self._token = ""
        self._start()

    def _start(self) -> None:
        self._token = self._given_token or uuid4().hex[:8]
        self._rows = []
        self._tar = None

    @property
    def rows(self) -> int:
        """Rows that wait for the next commit."""
        return sum(t.num_rows for t in self._rows)

    @property
    def bytes(self) -> int:
        """Bytes of pixels that wait for the next commit."""
        return self._tar.writer.size if self._tar else 0

    def add(self, table: pa.Table) -> None:
        """Take finished rows: outcome columns, and `image` (bytes of kept rows) where the stage stores pixels."""
        if IMAGE.name in table.column_names:
            table = self._store(table)
        self._rows.append(conform(table, self._schema))

    def _store(self, table: pa.Table) -> pa.Table:
        if self._tar is None:
            self._tar = NewTar(self._folder, f"p{self._partition:06d}-{self._token}.tar")
        places: list[tuple[str | None, int | None, int | None]] = []
        formats = table["stored_format"].to_pylist()
        for uid, image, extension in zip(table["uid"].to_pylist(), table["image"], formats, strict=True):
            if image.is_valid:
                offset, length = self._tar.add(f"{uid}.{extension}", image.as_buffer().to_pybytes())
                places.append((self._tar.name, offset, length))
            else:
                places.append((None, None, None))
        tars, offsets, lengths = zip(*places, strict=True) if places else ((), (), ())
        table = table.drop_columns([n for n in ("image", "tar", "offset", "length") if n in table.column_names])
        table = table.append_column("tar", pa.array(tars, pa.string()))
        table = table.append_column("offset", pa.array(offsets, pa.int64()))
        return table.append_column("length", pa.array(lengths, pa.int64()))

    def commit(self, *, end: bool) -> Fragment:
        """Make what was added durable; `end` says that the partition is complete with it."""
        table = pa.concat_tables(self._rows) if self._rows else self._schema.empty_table()
        name = f"p{self._partition:06d}-{self._token}{'-end' if end else ''}.parquet"
        tar, tar_bytes = None, 0
        if self._tar is not None:
            tar_bytes = self._tar.commit()
            tar = self._tar.name
        self._folder.write_table(name, table)
        self._start()
        return Fragment(name, Counts.of(table, self._sums), tar, tar_bytes)

    def abandon(self) -> None:
        """Throw away what was not committed."""
        if self._tar is not None:
            self._tar.abandon()
        self._start()


def settle_partition(
    folder: Folder, names: list[str], expected: set[str], sums: tuple[str, ...], stores_pixels: bool
) -> list[Fragment]:
    """The fragments that count for one partition, whose rows are `expected` (uids).

    This is the one place where a row that a retried task committed a second time is dropped: its later fragment is
    rewritten without it. Raises CorruptionError if rows are missing, or do not belong here.
    """
    seen: set[str] = set()
    fragments = []
    needed = ["uid", "outcome", "reason", *sums, *(["tar"] if stores_pixels else [])]
    for name in names:
        table = folder.read_table(name, needed)
        uids = table["uid"].to_pylist()
        if not set(uids) <= expected:
            raise CorruptionError(f"{folder.path(name)} holds rows that its partition does not have")
        fresh = pa.array([uid not in seen for uid in uids], pa.bool_())
        seen.update(uids)
        if pc.all(fresh).as_py() is False:
            whole = folder.read_table(name)
            writer = FragmentWriter(folder, partition_of(name), whole.schema, sums)
            writer.add(whole.filter(fresh))
            name = writer.commit(end=is_end(name)).name
            table = table.filter(fresh)
        tars = table["tar"].drop_null().unique().to_pylist() if stores_pixels else []
        assert len(tars) <= 1, f"{name} points into {len(tars)} tars"
        tar = tars[0] if tars else None
        fragments.append(Fragment(name, Counts.of(table, sums), tar, folder.size(tar) if tar else 0))
    if len(seen) != len(expected):
        raise CorruptionError(f"{folder.url}: {len(expected - seen)} of {len(expected)} rows have no outcome")
    return fragments


def outcome_schema(*groups: Iterable[Any]) -> pa.Schema:
    """Schema of a stage's fragments: the given fields, then the outcome columns."""
    return pa.schema([f for group in groups for f in group] + list(OUTCOME_FIELDS))
