"""JSON lines: objects with differing keys, mixed types, and lines that are no JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.errors import ConfigError, SourceError
from tests.sources.built import build, by_url, faults, reasons


def build_lines(tmp_path: Path, *lines: Any, **settings: Any) -> pa.Table:
    path = tmp_path / "list.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(encoded))
    return build(tmp_path / "out", {"kind": "jsonl", "path": str(path), **settings})


def test_objects(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl.gz"
    text = '\ufeff{"url": "http://a/1", "caption": "é\\n\\"x\\""}\r\n\n  \n{"caption": null, "url": "http://a/2"}\n'
    path.write_bytes(gzip.compress(text.encode()))
    table = build(tmp_path / "o", {"kind": "jsonl", "path": str(path), "columns": {"alt_text": "caption"}})
    assert {u: r["alt_text"] for u, r in by_url(table).items()} == {"http://a/1": 'é\n"x"', "http://a/2": None}


def test_types(tmp_path: Path) -> None:
    values: dict[str, list[Any]] = {
        "whole": [1, 2, None],
        "part": [1, 0.5, None],
        "truth": [True, False, None],
        "mixed": [1, "1", True],
        "long": [2**63, 1, None],
        "deep": [{"a": [1]}, [], None],
        "text": ["007", "8", None],
        "none": [None, None, None],
    }
    rows = [{"url": f"http://a/{i}", **{k: v[i] for k, v in values.items()}} for i in range(3)]
    table = build_lines(tmp_path, *rows, columns={"keep": list(values)})
    types = [str(table.schema.field(name).type) for name in values]
    assert types == ["int64", "double", "bool", "string", "string", "string", "string", "string"]
    got = by_url(table)
    assert [got["http://a/0"][n] for n in values] == [1, 1.0, True, "1", str(2**63), '{"a": [1]}', "007", None]
    assert got["http://a/2"]["mixed"] == "true"


def test_lines_that_are_no_objects(tmp_path: Path) -> None:
    table = build_lines(
        tmp_path,
        {"url": "http://a/1"},
        b'{"url": "http://a/2"',
        b'["http://a/3"]',
        b"null",
        b"[" * 100_000,
        b'{"url": 17}',
        b'{"url": "http://a/\\ud800"}',
        b'{"url": "http://a/caf\xe9"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"url": "' + b"x" * 2_000_000 + b'"}',
        {"url": "http://a/4"},
        *(b'{"url": ' + b"[" * depth + b"]" * depth + b"}" for depth in range(700, 1000, 3)),
    )
    assert sorted(by_url(table)) == ["http://a/1", "http://a/4"]
    assert reasons(table) == {None: 2, "invalid_url": 9 + 100}
    assert sorted(int(detail.split(":")[1]) for detail in faults(table)) == [*range(2, 11), *range(12, 112)]


def test_where_and_limit(tmp_path: Path) -> None:
    rows = [{"url": f"http://a/{i}", "n": i} for i in range(10)]
    table = build_lines(tmp_path, *rows, b"junk", where="n >= 4 AND url NOT LIKE '%5'", limit=3)
    assert sorted(by_url(table)) == ["http://a/4", "http://a/6", "http://a/7"]
    assert reasons(build_lines(tmp_path, *rows, b"junk", limit=4)) == {None: 4}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"columns": {"url": "link"}}, "source.columns.url: no column 'link'; The columns are: url, score"),
        ({"columns": {"keep": ["scores"]}}, "source.columns.keep: no column 'scores'; did you mean 'score'?"),
        ({"where": "scroe > 1"}, 'source.where: Binder Error: Referenced column "scroe" not found'),
        ({"where": "(score"}, "source.where: syntax error"),
        ({"where": "COLUMNS(*) > 1"}, "source.where: `*` cannot be used on jsonl; name the columns"),
        ({"where": "score > 5"}, "no rows where score > 5"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, SourceError)) as caught:
        build_lines(tmp_path, {"url": "http://a/1", "score": 1}, {"url": "http://a/2", "score": 2}, **settings)
    assert said in str(caught.value)


def test_a_misspelt_url_column_is_found_early(tmp_path: Path) -> None:
    """Before the damaged end of the file, which would be another error."""
    data = b"".join(b'{"link": "http://a/%d"}\n' % i for i in range(50_000))
    (tmp_path / "l.jsonl.gz").write_bytes(gzip.compress(data)[:-100])
    settings = {"kind": "jsonl", "path": str(tmp_path / "l.jsonl.gz")}
    with pytest.raises(ConfigError, match=r"source\.columns\.url: no column 'url'; The columns are: link"):
        build(tmp_path / "out", settings)


def test_a_file_of_junk_alone(tmp_path: Path) -> None:
    assert reasons(build_lines(tmp_path, b"<html>", b"</html>")) == {"invalid_url": 2}
