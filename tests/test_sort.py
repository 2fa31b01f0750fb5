from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation import sort
from curation.errors import StorageError
from curation.sort import Pile, sort_tables

SCHEMA = pa.schema(
    [("key", pa.uint64()), ("tie", pa.uint64()), ("n", pa.int32()), ("half", pa.list_(pa.float16()))],
)
KEYS = np.random.default_rng(0).integers(0, 2**64, 4000, np.uint64)


def tables(keys: np.ndarray, step: int = 100, ties: np.ndarray | None = None) -> Iterator[pa.Table]:
    """Rows with these keys, `step` at a time, numbered; `half` is the number again."""
    yield SCHEMA.empty_table()
    ties = np.zeros(len(keys), np.uint64) if ties is None else ties
    numbers = np.arange(len(keys))
    for i in range(0, len(keys), step):
        columns = [keys[i : i + step], ties[i : i + step], numbers[i : i + step]]
        yield pa.table([*columns, [[np.float16(n % 1000)] for n in columns[2]]], SCHEMA)


def in_order(folder: Path, keys: np.ndarray, step: int = 100, ties: np.ndarray | None = None) -> list[pa.Table]:
    found = list(sort_tables(tables(keys, step, ties), ["key", "tie"], 2.0**64, len(keys), folder))
    assert os.listdir(folder) == []
    return found


@pytest.mark.parametrize("sort_rows", [3, 40, 1000])
@pytest.mark.parametrize("step", [7, 300])
def test_same_order_however_it_is_sorted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sort_rows: int, step: int
) -> None:
    """With 5 files at once, up to four levels deep."""
    monkeypatch.setattr(sort, "SORT_ROWS", sort_rows)
    monkeypatch.setattr(sort, "MOST_PILES", 5)
    monkeypatch.setattr(sort, "DEAL_ROWS", 50)
    keys = KEYS[:300]
    together = pa.concat_tables(in_order(tmp_path, keys, step))
    assert together.schema == SCHEMA
    assert together["n"].to_pylist() == np.argsort(keys).tolist()
    assert together["half"].to_pylist() == [[n] for n in together["n"].to_pylist()]


def test_equal_keys_are_ordered_by_the_next_column_then_stay_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sort, "SORT_ROWS", 20)
    dice = np.random.default_rng(1)
    keys = dice.choice(np.array([0, 1, 5, 2**63, 2**64 - 1], np.uint64), 500)
    ties = dice.integers(0, 4, 500, np.uint64)
    together = pa.concat_tables(in_order(tmp_path, keys, ties=ties))
    assert together["n"].to_pylist() == sorted(range(500), key=lambda n: (keys[n], ties[n]))


def test_keys_that_a_float_cannot_tell_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sort, "SORT_ROWS", 10)
    keys = np.uint64(2**64 - 1) - np.random.default_rng(2).permutation(200).astype(np.uint64)
    assert pa.concat_tables(in_order(tmp_path, keys))["n"].to_pylist() == np.argsort(keys).tolist()


def test_pieces_are_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sort, "SORT_ROWS", 50)
    sizes = [table.num_rows for table in in_order(tmp_path, KEYS)]
    assert sum(sizes) == len(KEYS)
    assert max(sizes) <= 50
    assert min(sizes) > 0


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    assert in_order(tmp_path, KEYS[:0]) == []


def test_a_full_disk_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sort, "SORT_ROWS", 1000)
    (tmp_path / "part-2").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"^no space left on the device while writing .*/part-2$"):
        list(sort_tables(tables(KEYS), ["key", "tie"], 2.0**64, len(KEYS), tmp_path))


def test_files_are_closed_when_the_reader_stops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An open file would keep its space on the disk."""

    def is_open(path: Path) -> list[str]:
        return [f for f in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{f}").startswith(str(path))]

    monkeypatch.setattr(sort, "SORT_ROWS", 100)
    reader = sort_tables(tables(KEYS), ["key", "tie"], 2.0**64, len(KEYS), tmp_path)
    assert next(reader).num_rows <= 100
    assert len(is_open(tmp_path)) > 30
    reader.close()  # type: ignore[attr-defined]
    assert is_open(tmp_path) == []
    with Pile(tmp_path / "pile", SCHEMA) as pile:
        pile.add(next(tables(KEYS)))
        assert is_open(tmp_path / "pile")
    assert not is_open(tmp_path / "pile")
