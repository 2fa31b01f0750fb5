"""A packed corpus as the stream sees it: its manifest's hash, its shards, and a few numbers for each sample.

Of `index.parquet` only what planning and reading need stays in memory: 22 bytes a sample. `plan.py` and `reader.py` use
it; `foreign.py` writes the same files for tars that were packed elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.errors import ConfigError, CorruptionError, StorageError
from curation.fragments import MANIFEST
from curation.pack.buckets import parse_size
from curation.pack.index import INDEX
from curation.run_log import RUN_FILE, read_run
from curation.storage import Folder
from curation.stream.index import opened, read_places

MOST_BUCKETS = 32_767
"""Sizes of pictures in a stream."""
MAX_PIXELS = 100_000_000
"""Of a picture, stored or at its training size."""


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
    index: str = INDEX
    """Path of the index below the corpus's folder."""
    encoded: Any = None
    """What the manifest says of tensors in the samples, unchecked (`encode/cache.py` reads it); None: none."""

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def shard_samples(self) -> NDArray[np.int64]:
        """Samples of each shard, [S]."""
        return np.array([shard.samples for shard in self.shards], np.int64)

    def keys(self, rows: NDArray[Any]) -> list[str]:
        """Keys of some samples by row; reads the index's row groups that hold them."""
        with opened(self.folder, self.index) as file:
            starts = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
            groups = np.searchsorted(starts, rows, side="right") - 1
            keys = [""] * len(rows)
            for group in np.unique(groups).tolist():
                mine = np.flatnonzero(groups == group)
                column = file.read_row_group(group, ["uid"])["uid"]
                found = column.take(pa.array(rows[mine] - starts[group])).to_pylist()
                for place, key in zip(mine, found, strict=True):
                    keys[place] = str(key)
        return keys


def corpus_folder(url: str) -> str:
    """The packed corpus at `url`, or of the last run whose output `url` is; `url` itself where it is neither."""
    folder = Folder(url)
    if not folder.exists(MANIFEST) and folder.exists(RUN_FILE):
        corpus = read_run(folder)["corpus"]
        if corpus:
            return folder.path(corpus)
    return url


def corpus_setting(urls: Sequence[str]) -> list[str]:
    """What `--corpus` options override in the settings of a training."""
    listed = ", ".join(json.dumps({"path": corpus_folder(url)}) for url in urls)
    return [f"data.corpora=[{listed}]"] if urls else []


def manifest_hash(url: str) -> str | None:
    """What names the corpus at `url`: `Corpus.sha256`. None where nobody can tell."""
    folder = Folder(url)
    try:
        return hashlib.sha256(folder.read_bytes(MANIFEST)).hexdigest() if folder.exists(MANIFEST) else None
    except StorageError:
        return None


def open_corpus(url: str, setting: str = "corpus") -> Corpus:
    """Read manifest and index of the corpus at `url`.

    Raises ConfigError naming `setting` where there is none, CorruptionError where manifest and index disagree.
    """
    folder = Folder(url)
    if not folder.exists(MANIFEST):
        inside = [name for name in folder.folders() if name.startswith(("encode-", "pack-"))]
        hint = (
            f"; a corpus is a folder like {url}/{inside[0]}" if inside else "; foreign tars need `curate index` first"
        )
        raise ConfigError(setting, f"no corpus at {url}: it has no {MANIFEST}{hint}")
    data = folder.read_bytes(MANIFEST)
    try:
        facts = json.loads(data)["extra"]["corpus"]
        shards = tuple(_shard(found) for found in facts["shards"])
        kinds = tuple(str(kind) for kind in facts["captions"])
        index, size = _inside(facts["index"]["name"]), int(facts["index"]["bytes"])
        encoded = facts.get("encoded")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(setting, f"{folder.path(MANIFEST)} is not the manifest of a packed corpus: {error}") from None
    # Its SHA-256 is for `curate fsck --deep`: a second for ten million samples, in every process that opens it.
    if (found := folder.size(index)) != size:
        raise CorruptionError(f"{folder.path(index)} has {found} bytes, not {size} as {MANIFEST} says")
    numbers = {shard.name.removeprefix("shards/").removesuffix(".tar"): i for i, shard in enumerate(shards)}
    numbers |= {shard.name.removesuffix(".tar"): i for i, shard in enumerate(shards)}
    sizes = np.array([shard.bytes for shard in shards], np.int64)
    places = read_places(folder, index, numbers, sizes, MOST_BUCKETS)
    if len(places.shard) != sum(shard.samples for shard in shards):
        raise CorruptionError(f"{folder.path(index)} has {len(places.shard)} samples, not as many as {MANIFEST} says")
    try:
        buckets = tuple(_size(name) for name in places.buckets)
    except (ValueError, AttributeError) as error:
        raise CorruptionError(f"{folder.path(index)} is no index of these shards: {error}") from None
    return Corpus(
        folder=folder,
        sha256=hashlib.sha256(data).hexdigest(),
        shards=shards,
        buckets=buckets,
        kinds=kinds,
        shard=places.shard,
        bucket=places.bucket,
        offset=places.offset,
        length=places.length,
        crc32c=places.crc32c,
        index=index,
        encoded=encoded,
    )


def _shard(facts: Any) -> ShardFile:
    """A shard as the manifest has it, which may be anybody's: its hash becomes a file name in the cache."""
    if not re.fullmatch(r"[0-9a-f]{64}", facts["sha256"]):
        raise ValueError(f"{facts['sha256']!r} is no SHA-256")
    if min(int(facts["samples"]), int(facts["bytes"])) < 0:
        raise ValueError("a negative number")
    return ShardFile(_inside(facts["name"]), int(facts["samples"]), int(facts["bytes"]), facts["sha256"])


def _inside(name: str) -> str:
    """`name`, if it is a path below a folder."""
    if not isinstance(name, str) or {"", ".", ".."} & set(name.split("/")) or set(name) & {"\0", "\\"}:
        raise ValueError(f"{name!r} is no path below the corpus's folder")
    return name


def _size(bucket: Any) -> tuple[int, int]:
    """(width, height), if a picture can have it."""
    width, height = parse_size(bucket)
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"{bucket!r} is no size of pictures")
    return width, height
