"""A packed corpus as the stream sees it: its manifest's hash, its shards, and a few numbers for each sample.

Of `index.parquet` only what planning and reading need stays in memory: 22 bytes a sample. `plan.py` and `reader.py` use
it; `foreign.py` writes the same files for tars that were packed elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.errors import ConfigError, CorruptionError
from curation.fragments import MANIFEST
from curation.pack.buckets import parse_size
from curation.storage import Folder, storage_errors


@dataclass(frozen=True)
class ShardFile:
    """One tar of the corpus."""

    name: str
    """Path below the corpus's folder."""
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Corpus:
    """What a manifest and an index say; arrays have a row a sample, in the index's order."""

    folder: Folder
    sha256: str
    """Of `manifest.json`: names the corpus."""
    shards: tuple[ShardFile, ...]
    buckets: tuple[tuple[int, int], ...]
    """(width, height) in pixels."""
    kinds: tuple[str, ...]
    """Kinds of caption that its samples have."""
    shard: NDArray[np.int32]
    """Place in `shards`."""
    bucket: NDArray[np.int16]
    """Place in `buckets`."""
    offset: NDArray[np.int64]
    """Where the sample's tar records start in its shard, bytes."""
    length: NDArray[np.int32]
    """Bytes of its tar records."""
    crc32c: NDArray[np.uint32]
    """Of those bytes."""

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def shard_samples(self) -> NDArray[np.int64]:
        """Samples of each shard, [S]."""
        return np.bincount(self.shard, minlength=len(self.shards))

    def keys(self, rows: NDArray[Any]) -> list[str]:
        """Keys of some samples by row; reads the index's column for it."""
        found = self.folder.read_table("index.parquet", ["uid"])["uid"]
        return found.take(pa.array(rows)).to_pylist()  # type: ignore[no-any-return]


def open_corpus(url: str, setting: str = "corpus") -> Corpus:
    """Read manifest and index of the corpus at `url`.

    Raises ConfigError naming `setting` where there is none, CorruptionError where manifest and index disagree.
    """
    folder = Folder(url)
    if not folder.exists(MANIFEST):
        inside = [name for name in folder.folders() if name.startswith("pack-")]
        hint = (
            f"; a corpus is a folder like {url}/{inside[0]}" if inside else "; foreign tars need `curate index` first"
        )
        raise ConfigError(setting, f"no corpus at {url}: it has no {MANIFEST}{hint}")
    data = folder.read_bytes(MANIFEST)
    try:
        facts = json.loads(data)["extra"]["corpus"]
        shards = tuple(ShardFile(s["name"], s["samples"], s["bytes"], s["sha256"]) for s in facts["shards"])
        kinds, index, size = tuple(facts["captions"]), facts["index"]["name"], facts["index"]["bytes"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(setting, f"{folder.path(MANIFEST)} is not the manifest of a packed corpus: {error}") from None
    # Its SHA-256 is for `curate fsck --deep`: a second for ten million samples, in every process that opens it.
    if (found := folder.size(index)) != size:
        raise CorruptionError(f"{folder.path(index)} has {found} bytes, not {size} as {MANIFEST} says")
    table = _read_index(folder, index)
    if table.num_rows != sum(shard.samples for shard in shards):
        raise CorruptionError(f"{folder.path(index)} has {table.num_rows} samples, not as many as {MANIFEST} says")
    stems = {shard.name.removeprefix("shards/").removesuffix(".tar"): i for i, shard in enumerate(shards)}
    stems |= {shard.name.removesuffix(".tar"): i for i, shard in enumerate(shards)}
    shard = _codes(table["shard"], stems)
    names = sorted(set(table["bucket"].unique().to_pylist()))
    bucket = _codes(table["bucket"], {name: i for i, name in enumerate(names)})
    return Corpus(
        folder=folder,
        sha256=hashlib.sha256(data).hexdigest(),
        shards=shards,
        buckets=tuple(parse_size(name) for name in names),
        kinds=kinds,
        shard=shard.astype(np.int32),
        bucket=bucket.astype(np.int16),
        offset=table["offset"].to_numpy(),
        length=table["length"].to_numpy().astype(np.int32),
        crc32c=table["crc32c"].to_numpy(),
    )


def _read_index(folder: Folder, name: str) -> pa.Table:
    """The index's columns for planning."""
    columns = ["shard", "bucket", "offset", "length", "crc32c"]
    with storage_errors(folder.path(name)):
        try:
            if folder.local is not None:
                return pq.read_table(folder.path(name), columns=columns, read_dictionary=["shard", "bucket"])
            with folder.fs.open(folder.path(name), "rb") as file:
                return pq.read_table(file, columns=columns, read_dictionary=["shard", "bucket"])
        except pa.ArrowInvalid as error:
            raise CorruptionError(f"{folder.path(name)} is not readable as Parquet: {error}") from None


def _codes(column: pa.ChunkedArray, numbers: dict[str, int]) -> NDArray[np.int64]:
    """The numbers of a dictionary-encoded column's words."""
    parts = []
    for chunk in column.chunks:
        table = np.array([numbers[word] for word in chunk.dictionary.to_pylist()], np.int64)
        parts.append(table[chunk.indices.to_numpy()])
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
