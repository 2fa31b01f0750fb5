"""One row, or one server, never stops a run: what it says is a verdict. A store that is away is no row's fault."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from curation.config import FetchSettings
from curation.errors import StorageError
from curation.fetch.fetched import LONGEST_SIDE
from curation.fetch.stage import FetchStage
from curation.row import Reason
from curation.storage import Folder
from tests.fetch.harness import fetch, fetch_one, photo, settings
from tests.fetch.origin import Origin, answer, says


def png(width: int, height: int) -> bytes:
    """Signature and header of a PNG, no more."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize("side", [2**31 - 1, 2**31, 2**32 - 1])
def test_sides_that_no_column_holds(side: int) -> None:
    with Origin({"/x": says(answer(png(side, 7)))}) as origin:
        row = fetch_one(origin.url("/x"))
    assert row["outcome"] == "rejected", row["detail"]
    assert row["width"] == (side if side <= LONGEST_SIDE else None)
    assert row["height"] == 7


def test_a_store_that_is_away_is_no_rows_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.tar").write_bytes(photo())
    held = {"held_path": f"{tmp_path}/0.tar", "held_offset": 0, "held_length": 1000}
    gone = {**held, "held_path": f"{tmp_path}/1.tar"}
    assert fetch_one({"url": None, **gone})["reason"] == Reason.SOURCE_IMAGE_UNREADABLE

    def busy(folder: Folder, name: str, offset: int, length: int) -> bytes:
        raise StorageError("503 Slow Down") from OSError(503)

    monkeypatch.setattr(Folder, "read_range", busy)
    with pytest.raises(StorageError, match="503"):
        fetch([{"url": None, **held}])


@pytest.mark.parametrize("engine", ["async", "img2dataset"])
def test_each_engine_asks_a_host_as_often_at_once_as_it_may(tmp_path: Path, engine: str) -> None:
    given = settings(engine=engine, run={"concurrency": 64, "per_host": 2})
    stage = FetchStage(Folder(tmp_path), None, FetchSettings.model_validate(given))  # type: ignore[arg-type]
    made = stage._make_operator(concurrency=64, per_host=2, decoders=1)
    assert made._per_host == 2  # type: ignore[attr-defined]
