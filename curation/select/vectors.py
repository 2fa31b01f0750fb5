"""Embeddings of the rows that are still alive, in a scratch file: a million of 768 float16 numbers are 1.5 GB.

`curation.select.decide` writes them as rows come, and reads them through a memory map when it looks for duplicates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.storage import storage_errors


class Vectors:
    """A growing matrix in a file."""

    def __init__(self, path: str, kind: pa.FixedSizeListType) -> None:
        """`kind`: type of the columns that `add` will get. Raises StorageError."""
        self._path = path
        self._width = kind.list_size
        self._dtype = np.dtype(np.float16 if pa.types.is_float16(kind.value_type) else np.float32)
        self._names = [np.empty(0, np.int64)]
        with storage_errors(path):
            self._file = open(path, "wb")

    def add(self, names: NDArray[np.int64], column: pa.ChunkedArray) -> None:
        """Take the next rows, by ascending number. Null embeddings, and such as have no direction, are left out."""
        valid = column.is_valid().to_numpy()
        values = column.drop_null().combine_chunks().flatten().to_numpy(zero_copy_only=False)
        rows = values.astype(self._dtype, copy=False).reshape(-1, self._width)
        long = np.linalg.norm(rows.astype(np.float32), axis=1)
        sound = np.isfinite(long) & (long > 0)
        self._names.append(names[valid][sound])
        with storage_errors(self._path):
            self._file.write(np.ascontiguousarray(rows[sound]).data)

    def read(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Numbers of the rows `[n]`, ascending, and their embeddings `[n, d]`, float16 or float32, mapped."""
        with storage_errors(self._path):
            self._file.flush()
        names = np.concatenate(self._names)
        if not len(names):  # an empty file cannot be mapped
            return names, np.empty((0, self._width), self._dtype)
        return names, np.memmap(self._path, self._dtype, "r", shape=(len(names), self._width))

    def close(self) -> None:
        self._file.close()
