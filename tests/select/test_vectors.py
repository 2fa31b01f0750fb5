from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.errors import StorageError
from curation.select.vectors import Vectors


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    kind = pa.list_(pa.float16(), 3)
    rows = np.arange(1, 19, dtype=np.float16).reshape(6, 3)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 3)
    vectors = Vectors(str(tmp_path / "v"), kind)
    vectors.add(np.array([4, 6]), pa.chunked_array([column[1:2], column[4:5]]))
    vectors.add(np.empty(0, np.int64), pa.chunked_array([], kind))
    vectors.add(np.array([9]), pa.chunked_array([column[5:]]))
    names, found = vectors.read()
    assert names.tolist() == [4, 6, 9]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, rows[[1, 4, 5]])
    vectors.close()


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_what_has_no_direction_is_left_out(tmp_path: Path, kind: pa.DataType) -> None:
    values = [[1, 2], None, [0, 0], [float("nan"), 1], [float("inf"), 1], [3, None], [-1, 0]]
    numbers = [None if row is None else [None if x is None else np.float16(x) for x in row] for row in values]
    column = pa.chunked_array([pa.array(numbers, pa.list_(kind, 2))])
    vectors = Vectors(str(tmp_path / "v"), column.type)
    vectors.add(np.arange(7) + 10, column)
    names, found = vectors.read()
    assert names.tolist() == [10, 16]
    assert found.tolist() == [[1, 2], [-1, 0]]
    vectors.close()


def test_no_rows(tmp_path: Path) -> None:
    vectors = Vectors(str(tmp_path / "v"), pa.list_(pa.float32(), 5))
    names, found = vectors.read()
    assert (names.shape, found.shape) == ((0,), (0, 5))
    vectors.close()


def test_a_full_disk_is_one_clear_error() -> None:
    vectors = Vectors("/dev/full", pa.list_(pa.float32(), 4000))
    column = pa.chunked_array([pa.array([[1.0] * 4000], pa.list_(pa.float32(), 4000))])
    with pytest.raises(StorageError, match="no space left"):
        vectors.add(np.array([0]), column)
    vectors.close()
