"""A changed list has another signature; a moved one has the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

from curation.config import SourceSettings
from curation.errors import ConfigError
from curation.sources import signature as module
from curation.sources.files import SourceFile
from curation.sources.signature import signature


def of(path: Path | str, kind: str = "csv", **settings: Any) -> dict[str, Any]:
    found = signature(SourceSettings(kind=kind, path=str(path), **settings))  # type: ignore[arg-type]
    assert json.loads(json.dumps(found)) == found
    return found


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "lists/sub").mkdir(parents=True)
    (tmp_path / "lists/a.csv").write_text("url\nhttp://a/1\n")
    (tmp_path / "lists/sub/b.csv").write_text("url\nhttp://a/2\n")
    (tmp_path / "lists/notes.md").write_text("x")
    return tmp_path / "lists"


def test_content_and_names_count(lists: Path) -> None:
    first = of(lists)
    assert [name for name, _, _ in first["files"]] == ["a.csv", "sub/b.csv"]
    os.utime(lists / "a.csv", (1, 1))
    (lists / "notes.md").write_text("y")
    assert of(lists) == first
    assert of(lists / "*.csv") == of(lists / "a.csv")
    (lists / "a.csv").write_text("url\nhttp://a/3\n")
    changed = of(lists)
    assert changed != first
    (lists / "a.csv").rename(lists / "c.csv")
    assert of(lists) != changed


def test_a_moved_list_is_the_same_list(lists: Path, tmp_path: Path) -> None:
    first = of(lists)
    shutil.move(lists, tmp_path / "elsewhere")
    assert of(tmp_path / "elsewhere") == first
    fsspec.filesystem("memory").put(str(tmp_path / "elsewhere"), "/signed", recursive=True)
    assert of("memory://signed") == first


def test_moved_images_are_not_where_the_rows_say(lists: Path, tmp_path: Path) -> None:
    for suffix in ("tar", "parquet"):
        (lists / f"0.{suffix}").write_bytes(b"x")
    first = {kind: of(lists, kind) for kind in ("webdataset", "img2dataset")}
    shutil.copytree(lists, tmp_path / "elsewhere")
    assert {kind: of(tmp_path / "elsewhere", kind)["files"] for kind in first} == {
        k: s["files"] for k, s in first.items()
    }
    assert all(of(tmp_path / "elsewhere", kind) != s for kind, s in first.items())
    (lists / "0.tar").write_bytes(b"y")
    assert all(of(lists, kind) != s for kind, s in first.items())
    (lists / "0.tar").unlink()
    assert of(lists, "img2dataset")["tars"] == [["0.tar", 0, ""]]


def test_large_files_are_told_by_their_ends_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END", 100)
    path = tmp_path / "l.csv"
    data = bytearray(b"x" * 5000)
    seen = set()
    for change in (0, 50, 4950):
        data[change] ^= 1
        path.write_bytes(data)
        os.utime(path, (1, 1))
        module._digests.clear()  # those of this process: another one asks later
        seen.add(str(of(path)))
    data[2500] ^= 1
    path.write_bytes(data)
    os.utime(path, (1, 1))
    assert str(of(path)) in seen  # the middle of it is not read …
    os.utime(path, (2, 2))
    assert str(of(path)) not in seen  # … but a file that was written again has another time
    assert len(seen) == 3


def test_a_process_reads_a_file_once(lists: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(file: SourceFile, end: int) -> str:
        read.append(file.name)
        return "digest"

    monkeypatch.setattr(module, "_read_digest", reading)
    assert of(lists) == of(lists)
    assert sorted(read) == ["a.csv", "sub/b.csv"]
    os.utime(lists / "a.csv", (7, 7))
    of(lists)
    assert read[2:] == ["a.csv"]


def test_hub_names_are_told_by_their_settings(tmp_path: Path) -> None:
    found = of("someone/nothing", "hf", revision="abc", hf_config="small", split="dev")
    assert found == {"hub": "someone/nothing", "config": "small", "split": "dev", "revision": "abc"}
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train.parquet").write_bytes(b"x")
    (tmp_path / "set/state.json").write_bytes(b"{}")
    first = of(tmp_path / "set", "hf")
    (tmp_path / "set/train.parquet").write_bytes(b"y")
    assert of(tmp_path / "set", "hf") != first
    with pytest.raises(ConfigError, match="not found"):
        of(tmp_path / "none", "hf")


def test_what_is_not_there(tmp_path: Path) -> None:
    settings = SourceSettings(kind="csv", path=str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError) as caught:
        signature(settings, "source.3")
    assert caught.value.path == "source.3.path"
