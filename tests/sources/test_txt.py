"""Plain lists: a URL a line."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.sources.built import build, by_url, faults, reasons

TEXT = b"\xef\xbb\xbf# my list\nhttp://a/1\r\n\n  http://a/2  \n#http://a/3\nnot a url\nhttp://a/1#again\nhttp://a/\xff\nhttp://a/4"


def test_lines(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(TEXT)
    table = build(tmp_path / "o", {"kind": "txt", "path": str(tmp_path / "l.txt"), "columns": {"url": "whatever"}})
    assert sorted(by_url(table)) == ["http://a/1", "http://a/2", "http://a/4"]
    assert reasons(table) == {None: 3, "invalid_url": 2, "duplicate_url": 1}
    invalid = [detail for detail in faults(table) if detail]
    assert invalid == [
        "l.txt:6: no URL: 'not a url'",
        "l.txt:8: the URL holds bytes that are no UTF-8: 'http://a/\ufffd'",
    ]


def test_gzip_where_limit_and_folders(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    for name in "ab":
        text = "".join(f"http://{name}.example/{i}\n" for i in range(5))
        (tmp_path / f"l/{name}.txt.gz").write_bytes(gzip.compress(text.encode()))
    settings = {"kind": "txt", "path": str(tmp_path / "l")}
    assert reasons(build(tmp_path / "1", settings)) == {None: 10}
    table = build(tmp_path / "2", {**settings, "where": "url LIKE '%/4'"})
    assert sorted(by_url(table)) == ["http://a.example/4", "http://b.example/4"]
    table = build(tmp_path / "3", {**settings, "limit": 6})
    assert sorted(by_url(table))[-1] == "http://b.example/0"
    assert table.num_rows == 6
