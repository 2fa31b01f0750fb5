"""What a `path` means: files, folders, globs, web addresses."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import ConfigError
from curation.sources.files import find_files
from tests.sources.built import build, by_url

URLS = [f"http://h{i}.example/{i}" for i in range(20)]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    pq.write_table(pa.table({"url": URLS, "n": range(20)}), folder / "list.parquet")
    (folder / "list.csv").write_text("\n".join(["url", *URLS]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", ["list.parquet", "list.csv", "list.csv?version=[3]"])
def test_lists_on_the_web(tmp_path: Path, site: str, name: str) -> None:
    kind = "parquet" if "parquet" in name else "csv"
    assert sorted(by_url(build(tmp_path, {"kind": kind, "path": f"{site}/{name}"}))) == sorted(URLS)


def test_nothing_on_the_web(tmp_path: Path, site: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, {"kind": "csv", "path": f"{site}/none.csv"})
    assert caught.value.path == "source.path"


def test_names_are_relative_and_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/2.csv", "b/10.CSV", "a.csv.gz", "_logs/x.csv", "b/.x.csv", "c.txt", "d.csv/e.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_files(str(tmp_path), "csv", "source")
    assert [f.name for f in found] == ["a.csv.gz", "b/10.CSV", "b/2.csv", "d.csv/e.csv"]
    assert all(f.url == str(tmp_path / f.name) for f in found)
    assert [f.name for f in find_files(f"{tmp_path}/b/*", "csv", "source")] == [".x.csv", "10.CSV", "2.csv"]
    assert [f.name for f in find_files(f"{tmp_path}/*/2.csv", "csv", "source")] == ["b/2.csv"]
    assert [f.name for f in find_files(f"{tmp_path}/c.txt", "csv", "source")] == ["c.txt"]
    assert find_files(f"file://{tmp_path}", "csv", "source") == found
    monkeypatch.chdir(tmp_path)
    assert [f.url for f in find_files("b/2.csv", "csv", "source")] == [str(tmp_path / "b/2.csv")]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [f.name for f in find_files("~/b/2.csv", "csv", "source")] == ["2.csv"]


def test_a_glob_that_matches_folders_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(ConfigError, match=r"source\.path: no file matches"):
        find_files(f"{tmp_path}/*.csv", "csv", "source")


def test_a_file_of_the_neighbour(tmp_path: Path) -> None:
    (tmp_path / "x.y.parquet").write_text("")
    (file,) = find_files(str(tmp_path), "img2dataset", "source")
    assert file.sibling(".tar").name == "x.y.tar"
    assert file.sibling(".tar").url == str(tmp_path / "x.y.tar")
