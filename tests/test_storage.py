"""Folders that others write into at the same time, and what is asked of an object store."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from uuid import uuid4

from curation.storage import Folder


def _rename(folder: Path, ended: float) -> None:
    """Commit files as a worker does, for a while."""
    number = 0
    while time.monotonic() < ended:
        temporary = folder / f"x.tmp-{number}"
        temporary.touch()
        temporary.rename(folder / f"y-{number % 50}")
        number += 1


def test_folders_are_equal_by_url() -> None:
    assert Folder("a/b/") == Folder("a/b")
    assert len({Folder("a"), Folder("a"), Folder("b")}) == 2
    assert Folder("a") != "a"


def test_files_that_get_their_names_meanwhile_disturb_nobody(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"p{number:06d}").touch()
    (tmp_path / "shards").mkdir()
    worker = multiprocessing.get_context("fork").Process(target=_rename, args=(tmp_path, time.monotonic() + 1))
    worker.start()
    listed = 0
    while worker.is_alive() or not listed:
        sizes = Folder(tmp_path).sizes()
        assert len([name for name in sizes if name.startswith("p")]) == 500
        listed += 1
    worker.join()
    assert "shards" not in sizes


def test_names_of_a_partition_alone(tmp_path: Path) -> None:
    for folder in (Folder(tmp_path), Folder(f"memory://{uuid4().hex}")):
        assert folder.names("p") == []
        for name in ("p000001-b.parquet", "p000001-a.parquet", "p000011-c.parquet", "manifest.json"):
            folder.write_bytes(name, b"1")
        assert folder.names("p000001-") == ["p000001-a.parquet", "p000001-b.parquet"]
        assert len(folder.names("p")) == 3
        assert folder.sizes() == {**dict.fromkeys(folder.names(""), 1)}
