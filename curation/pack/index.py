"""What stands beside the shards: `index.parquet` (a row a sample) and `wids.json`; and the facts for the manifest.

`stage.py` writes them when all shards are there. Everything is read from the stage's own fragments, one at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.fragments import Fragment
from curation.pack.shard import shard_path
from curation.row import OUTCOME_FIELDS, PACKED, UID, Outcome
from curation.storage import Folder, storage_errors

INDEX = "index.parquet"
WIDS = "wids.json"
GROUP_ROWS = 65_536
"""Rows of a row group of the index."""
_OF_SHARD = ("tar_bytes", "tar_sha256", "tar_md5")
_ROW_FIELDS = (UID, pa.field("shard", pa.string()), pa.field("bucket", pa.string()))
_ORIGINAL = ("original_width", "original_height")

INDEX_SCHEMA = pa.schema(
    [
        *_ROW_FIELDS,
        *(field for field in PACKED.type if field.name not in _OF_SHARD),
        *(pa.field(name, pa.int32()) for name in _ORIGINAL),
    ]
)
"""`uid` is the sample's key and `shard` the stem of its file ("00000"); the other columns are those of `row.PACKED`."""


@dataclass(frozen=True)
class Shard:
    """One shard, as the manifest names it."""

    name: str
    samples: int
    bytes: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class Index:
    """What `write_index` saw."""

    shards: tuple[Shard, ...]
    buckets: dict[str, int]
    """Samples by bucket."""
    bytes: int
    """Of `index.parquet`."""
    sha256: str

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


def write_index(folder: Folder, fragments: Iterable[Fragment], further: Sequence[Any] = ()) -> Index:
    """Write `index.parquet` from a stage's `fragments`, in shard order, and sum up the shards.

    `further` fields of their rows become columns too.
    """
    schema = pa.schema([*INDEX_SCHEMA, *further])
    shards: list[Shard] = []
    buckets: Counter[str] = Counter()
    with folder.writing(INDEX) as path:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            held: list[pa.Table] = []
            for fragment in fragments:
                table = _kept(folder, fragment, further)
                if not table.num_rows:
                    continue
                shards.append(_shard(table))
                buckets.update(table["bucket"].to_pylist())
                held.append(table.select(schema.names))
                if sum(t.num_rows for t in held) >= GROUP_ROWS:
                    writer.write_table(pa.concat_tables(held).combine_chunks())
                    held = []
            if held:
                writer.write_table(pa.concat_tables(held).combine_chunks())
        digest = hashlib.sha256()
        with storage_errors(str(path)), open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
            size = file.tell()
    return Index(tuple(shards), dict(sorted(buckets.items())), size, digest.hexdigest())


def _kept(folder: Folder, fragment: Fragment, further: Sequence[Any]) -> pa.Table:
    """The samples of one fragment: columns of the index, and those of the shard."""
    plain = [*_ROW_FIELDS, *further]
    names = [*(f.name for f in plain), "width", "height", PACKED.name, OUTCOME_FIELDS[0].name]
    table = folder.read_table(fragment.name, names)
    table = table.filter(pa.compute.equal(table["outcome"], Outcome.KEPT.value)).combine_chunks()
    packed = table[PACKED.name].combine_chunks()
    columns = {f.name: table[f.name] for f in plain}
    columns |= {f.name: packed.field(f.name) for f in PACKED.type}
    columns |= {name: table[name.removeprefix("original_")] for name in _ORIGINAL}
    fields = [*INDEX_SCHEMA, *further, *(PACKED.type.field(name) for name in _OF_SHARD)]
    return pa.table(columns, schema=pa.schema(fields))


def _shard(table: pa.Table) -> Shard:
    first = table.slice(0, 1).to_pylist()[0]
    return Shard(shard_path(first["shard"]), table.num_rows, first["tar_bytes"], first["tar_sha256"], first["tar_md5"])


def write_wids(folder: Folder, name: str, shards: Iterable[Shard]) -> None:
    """The shard list that the `wids` reader of webdataset 0.2 takes; paths are relative to the file itself."""
    listed = [{"url": s.name, "md5sum": s.md5, "nsamples": s.samples, "filesize": s.bytes} for s in shards]
    folder.write_json(WIDS, {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": name, "shardlist": listed})


def describe(index: Index) -> dict[str, Any]:
    """The shards and the index as the manifest names them."""
    return {
        "samples": index.samples,
        "bytes": sum(shard.bytes for shard in index.shards),
        "shards": [asdict(shard) for shard in index.shards],
        "index": {"name": INDEX, "bytes": index.bytes, "sha256": index.sha256},
        "buckets": index.buckets,
    }
