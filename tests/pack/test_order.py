import errno
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.errors import StorageError
from curation.pack import order
from curation.pack.order import Order
from curation.row import make_uid

SCHEMA = pa.schema([("uid", pa.string()), ("n", pa.int32()), ("half", pa.list_(pa.float16()))])


def table(numbers: range) -> pa.Table:
    columns = {"uid": [make_uid("order", str(n)) for n in numbers], "n": list(numbers)}
    return pa.table({**columns, "half": [[np.float16(n)] for n in numbers]}, SCHEMA)


def in_order(numbers: list[int], seed: int) -> list[int]:
    return sorted(numbers, key=lambda n: hashlib.md5(f"{seed}:{make_uid('order', str(n))}".encode()).digest())


@pytest.mark.parametrize("file_rows", [7, 100, 10_000])
@pytest.mark.parametrize("step", [1, 13, 300])
@pytest.mark.parametrize("expected", [300, 10, 10_000])
def test_same_order_however_it_is_sorted(
    monkeypatch: pytest.MonkeyPatch, file_rows: int, step: int, expected: int
) -> None:
    monkeypatch.setattr(order, "FILE_ROWS", file_rows)
    monkeypatch.setattr(order, "MOST_FILES", 20)
    with Order(SCHEMA, expected, seed=3) as rows:
        for start in range(0, 300, step):
            rows.add(table(range(start, min(start + step, 300))))
        found = list(rows.read())
    together = pa.concat_tables(found)
    assert together.schema == SCHEMA
    assert together["n"].to_pylist() == in_order(list(range(300)), seed=3)
    assert together["half"].to_pylist() == [[float(n)] for n in together["n"].to_pylist()]


def test_files_are_small_and_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(order, "FILE_ROWS", 50)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Order(SCHEMA, 1000, seed=0) as rows:
        rows.add(table(range(1000)))
        assert len(list(next(tmp_path.iterdir()).iterdir())) == 0  # written from 20 times as many rows on
        rows.add(table(range(1000, 4000)))
        assert len(list(next(tmp_path.iterdir()).iterdir())) == 20
        sizes = [found.num_rows for found in rows.read()]
        assert sum(sizes) == 4000
        assert max(sizes) < 4000 / 20 * 1.5
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_nothing_out() -> None:
    with Order(SCHEMA, 0, seed=0) as rows:
        rows.add(table(range(0)))
        assert list(rows.read()) == []


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pa.ipc, "new_stream", full)
    with Order(SCHEMA, 10, seed=0) as rows:
        rows.add(table(range(10)))
        with pytest.raises(StorageError, match="no space left"):
            list(rows.read())
    assert list(tmp_path.iterdir()) == []
