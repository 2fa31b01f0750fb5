"""What planning and reading need of `index.parquet`, in 22 bytes a sample; `corpus.py` calls `read_places`.

The file is read some thousand rows at a time into arrays of the final size: ten million samples take about a second and
no more memory than they need afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.errors import CorruptionError
from curation.storage import Folder, storage_errors

BATCH_ROWS = 1 << 17


@dataclass(frozen=True)
class Places:
    """Where the samples are; arrays have a row a sample, in the index's order."""

    shard: NDArray[np.int32]
    """Place in the list of shards."""
    bucket: NDArray[np.int16]
    """Place in `buckets`."""
    buckets: tuple[str, ...]
    """Names of the buckets, sorted."""
    offset: NDArray[np.int64]
    """Where the sample's tar records start in its shard, bytes."""
    length: NDArray[np.int32]
    """Bytes of its tar records."""
    crc32c: NDArray[np.uint32]
    """Of those bytes."""


def read_places(folder: Folder, name: str, shards: Mapping[str, int], sizes: NDArray[np.int64], most: int) -> Places:
    """Read the index. `shards`: number of a shard by its name in the index; `sizes` [S]: their bytes.

    Raises CorruptionError where it is no index of these shards: other shards, samples outside of them (a reader makes
    room for a length before it reads), over 2 GiB or `most` buckets.
    """
    with opened(folder, name) as file:
        rows = file.metadata.num_rows
        if rows != sum(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)):
            raise CorruptionError(f"{folder.path(name)} is no index of these shards: its groups are not its rows")
        if rows > sizes.sum() // 512:  # records of a tar
            raise CorruptionError(f"{folder.path(name)} is no index of these shards: more samples than they have room")
        shard, bucket = np.empty(rows, np.int32), np.empty(rows, np.int16)
        offset, length = np.empty(rows, np.int64), np.empty(rows, np.int32)
        crc = np.empty(rows, np.uint32)
        numbers: dict[str, int] = {}
        at = 0
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=["shard", "bucket", "offset", "length", "crc32c"]):
                here = slice(at, at + batch.num_rows)
                at = here.stop
                shard[here] = _codes(batch["shard"], shards)
                for word in pa.compute.unique(batch["bucket"]).to_pylist():
                    numbers.setdefault(word, len(numbers))
                if len(numbers) > most:
                    raise ValueError(f"over {most:,} buckets")
                bucket[here] = _codes(batch["bucket"], numbers)
                starts, sizes_here = _numbers(batch["offset"], pa.int64()), _numbers(batch["length"], pa.int64())
                _check(starts, sizes_here, sizes[shard[here]])
                offset[here], length[here] = starts, sizes_here
                crc[here] = _numbers(batch["crc32c"], pa.uint32())
            if at != rows:
                raise ValueError(f"{rows:,} samples are told, {at:,} are there")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise CorruptionError(f"{folder.path(name)} is no index of these shards: {error}") from None
    names = sorted(numbers)
    order = np.array([names.index(word) for word in numbers], np.int16)
    return Places(shard, order[bucket] if rows else bucket, tuple(names), offset, length, crc)


@contextmanager
def opened(folder: Folder, name: str) -> Iterator[pq.ParquetFile]:
    """The index, open. Raises CorruptionError where it cannot be read."""
    words = ["shard", "bucket"]
    with storage_errors(folder.path(name)):
        try:
            if folder.local is not None:
                with pq.ParquetFile(folder.path(name), read_dictionary=words) as parquet:
                    yield parquet
                return
            with folder.fs.open(folder.path(name), "rb") as file:
                yield pq.ParquetFile(file, read_dictionary=words)
        except (pa.ArrowException, KeyError) as error:
            raise CorruptionError(f"{folder.path(name)} is not readable as Parquet: {error}") from None


def _codes(column: Any, numbers: Mapping[str, int]) -> NDArray[np.int32]:
    """The numbers of a column's words."""
    if column.null_count:
        raise ValueError("a row without its shard or bucket")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    found = np.array([numbers[word] for word in column.dictionary.to_pylist()], np.int32)
    codes: NDArray[np.int32] = found[column.indices.to_numpy()]
    return codes


def _numbers(column: Any, kind: pa.DataType) -> NDArray[Any]:
    if column.null_count:
        raise ValueError("a row without its place")
    return column.cast(kind).to_numpy()  # type: ignore[no-any-return]


def _check(offset: NDArray[np.int64], length: NDArray[np.int64], size: NDArray[np.int64]) -> None:
    if len(size) and (offset.min() < 0 or length.min() < 1 or length.max() >= 2**31 or (length > size - offset).any()):
        raise ValueError("a sample lies outside of its shard, or is over 2 GiB")
