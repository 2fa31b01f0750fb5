"""Parquet lists: real files, pushed-down conditions, and one clear error for everything that is wrong with them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curation.config import SourceSettings
from curation.errors import ConfigError, SourceError
from curation.names import make_uid, normalise_url
from curation.sources.parquet import open_parquet
from curation.sources.scratch import Scratch
from tests.shared import shared
from tests.sources.built import build, by_url, faults, reasons


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def urls(start: int, end: int) -> list[str]:
    return [f"http://h{i}.example/{i}.jpg" for i in range(start, end)]


@pytest.fixture
def listed(tmp_path: Path) -> dict[str, Any]:
    path = write(tmp_path / "list.parquet", url=urls(0, 6), text=list("abcdef"), score=[0.1 * i for i in range(6)])
    return {"kind": "parquet", "path": str(path)}


def test_real_laion_rows(tmp_path: Path) -> None:
    path = shared("urls") / "laion_1000.parquet"
    columns = {"url": "URL", "alt_text": "TEXT"}
    table = build(tmp_path, {"name": "laion", "kind": "parquet", "path": str(path), "columns": columns})
    assert reasons(table) == {None: 1000}
    given = {r["URL"]: r["TEXT"] for r in pq.read_table(path).to_pylist()}
    assert {url: row["alt_text"] for url, row in by_url(table).items()} == given
    for url, row in by_url(table).items():
        normal = normalise_url(url)
        assert normal is not None
        assert row["uid"] == make_uid("laion", normal)


def test_columns_keep_their_types(tmp_path: Path) -> None:
    kept = {
        "id": pa.array([1, 2**40], pa.int64()),
        "small": pa.array([1, None], pa.int16()),
        "score": pa.array([0.5, 1.5], pa.float32()),
        "safe": pa.array([True, None]),
        "tags": pa.array([["a"], []], pa.list_(pa.string())),
        "blob": pa.array([b"\x00\xff", None]),
        "when": pa.array([0, 1], pa.timestamp("us")),
        "coded": pa.array(["x", "y"]).dictionary_encode(),
        "nothing": pa.nulls(2),
    }
    path = write(tmp_path / "list.parquet", url=urls(0, 2), lic=["CC0", None], m=["AB", None], **kept)
    columns = {"license": "lic", "md5": "m", "keep": list(kept)}
    table = build(tmp_path / "out", {"kind": "parquet", "path": str(path), "columns": columns})
    types = {name: array.type for name, array in kept.items()} | {"coded": pa.string(), "nothing": pa.int32()}
    got = {name: table.schema.field(name).type for name in kept}
    assert {n: t for n, t in got.items() if n != "nothing"} == {n: t for n, t in types.items() if n != "nothing"}
    rows = by_url(table)
    for i, url in enumerate(urls(0, 2)):
        assert {n: rows[url][n] for n in kept} == {n: a[i].as_py() for n, a in kept.items()}
    assert rows[urls(0, 1)[0]]["license"] == "CC0"
    assert rows[urls(0, 1)[0]]["expected_md5"] == "ab"


def test_where_and_then_limit(tmp_path: Path, listed: dict[str, Any]) -> None:
    table = build(tmp_path / "a", {**listed, "where": "score > 0.15 -- a comment"})
    assert sorted(by_url(table)) == urls(2, 6)
    table = build(tmp_path / "b", {**listed, "where": "score > 0.15", "limit": 3})
    assert sorted(by_url(table)) == urls(2, 5)
    table = build(tmp_path / "c", {**listed, "where": "score > 0.35 OR text = 'a'", "limit": 2})
    assert sorted(by_url(table)) == [urls(0, 1)[0], urls(4, 5)[0]]


class CountingFileSystem(MemoryFileSystem):
    """Counts the bytes that are read from it."""

    protocol = "counting"
    read_bytes_total = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("counting://", "memory://")))

    def _open(self, *args: Any, **kwargs: Any) -> Any:
        opened = super()._open(*args, **kwargs)
        read: Callable[..., bytes] = opened.read

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(opened, name)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                return None

            def read(self, *size: int) -> bytes:
                data = read(*size)
                CountingFileSystem.read_bytes_total += len(data)
                return data

        return Counted()


def test_where_is_pushed_down_into_row_groups(tmp_path: Path) -> None:
    """A condition that one row group of 50 can meet costs a fraction of the bytes, over any file system."""
    fsspec.register_implementation("counting", CountingFileSystem, clobber=True)
    rows = 50_000
    table = pa.table(
        {"url": urls(0, rows), "n": range(rows), "heavy": [random.Random(i).randbytes(40) for i in range(rows)]}
    )
    with fsspec.open("counting://lists/a.parquet", "wb") as file:
        pq.write_table(table, file, row_group_size=1000)
    settings = {"kind": "parquet", "path": "counting://lists/*.parquet", "columns": {"keep": ["n"]}}
    size = fsspec.filesystem("counting").size("/lists/a.parquet")

    def cost(folder: str, **more: Any) -> int:
        CountingFileSystem.read_bytes_total = 0
        build(tmp_path / folder, {**settings, **more})
        return CountingFileSystem.read_bytes_total

    whole = cost("whole")
    assert whole < size * 0.6  # `heavy` is never read
    assert cost("some", where="n BETWEEN 30500 AND 30600") < whole / 4


def test_globs_and_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    again = urls(0, 1)
    write(tmp_path / "lists/b.parquet", url=again, from_file=["b"])
    write(tmp_path / "lists/a.parquet", url=again, from_file=["a"])
    write(tmp_path / "lists/sub/c.parquet", url=urls(1, 2), from_file=["c"])
    write(tmp_path / "lists/_hidden/d.parquet", url=urls(2, 3), from_file=["d"])
    (tmp_path / "lists/_SUCCESS").write_text("")
    (tmp_path / "lists/notes.txt").write_text("not a list")
    columns = {"keep": ["from_file"]}
    folder = build(tmp_path / "1", {"kind": "parquet", "path": str(tmp_path / "lists"), "columns": columns})
    assert {u: r["from_file"] for u, r in by_url(folder).items()} == {again[0]: "a", urls(1, 2)[0]: "c"}
    assert reasons(folder) == {None: 2, "duplicate_url": 1}
    glob = build(tmp_path / "2", {"kind": "parquet", "path": f"{tmp_path}/lists/[ab].par*", "columns": columns})
    assert {r["from_file"] for r in by_url(glob).values()} == {"a"}
    deep = build(tmp_path / "3", {"kind": "parquet", "path": f"{tmp_path}/lists/**/*.parquet", "columns": columns})
    assert deep.num_rows == 4


def test_names_with_wildcards_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "it's [1]*?.parquet", url=urls(0, 2))
    write(tmp_path / "it's 1xx.parquet", url=urls(5, 9))
    assert sorted(by_url(build(tmp_path / "o", {"kind": "parquet", "path": str(path)}))) == urls(0, 2)


def test_files_may_differ_in_columns_and_widths(tmp_path: Path) -> None:
    write(tmp_path / "l/a.parquet", url=urls(0, 1), n=pa.array([1], pa.int32()))
    write(tmp_path / "l/b.parquet", n=pa.array([2.5]), url=urls(1, 2), more=["x"])
    settings = {"kind": "parquet", "path": str(tmp_path / "l"), "columns": {"keep": ["n", "more"]}}
    rows = by_url(build(tmp_path / "o", settings))
    assert [(rows[u]["n"], rows[u]["more"]) for u in urls(0, 2)] == [(1.0, None), (2.5, "x")]


def test_rows_without_a_usable_url_are_rejected(tmp_path: Path) -> None:
    given = ["http://a.example/1", None, "", "  ", "no url", "http://a.example/1#f", "ftp://a.example/"]
    table = build(tmp_path / "o", {"kind": "parquet", "path": str(write(tmp_path / "l.parquet", url=given))})
    assert reasons(table) == {
        None: 2,
        "invalid_url": 4,
        "duplicate_url": 1,
    }  # whether ftp may be fetched, fetch decides
    assert "no URL: 'no url'" in faults(table)


def test_text_that_is_not_marked_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", url=[b"http://a.example/1", b"http://\xff"], text=[7, 8])
    settings = {"kind": "parquet", "path": str(path), "columns": {"alt_text": "text"}}
    table = build(tmp_path / "o", settings)
    assert reasons(table) == {None: 1, "invalid_url": 1}
    assert by_url(table)["http://a.example/1"]["alt_text"] == "7"


def failure(settings: dict[str, Any], tmp_path: Path) -> ConfigError | SourceError:
    with pytest.raises((ConfigError, SourceError)) as caught:
        build(tmp_path / "out", settings)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ({"columns": {"url": "ulr"}}, "source.columns.url", "did you mean 'url'? The columns are: url, text, score"),
        ({"columns": {"url": "URL"}}, "source.columns.url", "did you mean 'url'?"),
        ({"columns": {"alt_text": "caption"}}, "source.columns.alt_text", "The columns are: url, text, score"),
        ({"columns": {"keep": ["text", "x"]}}, "source.columns.keep", "no column 'x'"),
        ({"columns": {"keep": ["Text", "text"]}}, "source.columns.keep", "no column 'Text'; did you mean 'text'?"),
        ({"where": "scroe > 1"}, "source.where", 'Referenced column "scroe" not found'),
        ({"where": "score >"}, "source.where", "syntax error"),
        ({"where": "CAST(text AS INT) > 1"}, "source.where", "Could not convert string 'a' to INT32"),
        ({"where": "score"}, "source.where", None),
        ({"path": "/nowhere/list.parquet"}, "source.path", "not found: /nowhere/list.parquet"),
        ({"path": "/nowhere/*.parquet"}, "source.path", "no file matches /nowhere/*.parquet"),
        ({"path": "nosuch://bucket/list.parquet"}, "source.path", "nosuch"),
    ],
)
def test_wrong_settings(
    tmp_path: Path, listed: dict[str, Any], change: dict[str, Any], path: str, said: str | None
) -> None:
    if said is None:  # DuckDB takes any number for a truth value
        assert build(tmp_path / "out", {**listed, **change}).num_rows == 5
        return
    error = failure({**listed, **change}, tmp_path)
    assert isinstance(error, ConfigError)
    assert error.path == path
    assert said in error.problem


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    error = failure({"kind": "parquet", "path": str(tmp_path / "lists")}, tmp_path)
    assert "holds no file named *.parquet" in str(error)


def test_no_rows(tmp_path: Path, listed: dict[str, Any]) -> None:
    error = failure({**listed, "name": "laion", "where": "score > 9"}, tmp_path)
    assert isinstance(error, SourceError)
    assert str(error) == f"source laion ({listed['path']}): no rows where score > 9"


def test_a_list_column_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", url=urls(0, 1), tags=[["a"]])
    error = failure({"kind": "parquet", "path": str(path), "columns": {"alt_text": "tags"}}, tmp_path)
    assert str(error) == "source.columns.alt_text: column 'tags' holds VARCHAR[], not text"


@pytest.mark.parametrize("damage", ["junk", "empty", "cut", "page"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    for name in "abc":
        write(tmp_path / f"l/{name}.parquet", url=urls(0, 5000))
    bad = tmp_path / "l/b.parquet"
    data = bad.read_bytes()
    damaged = {
        "junk": b"hello" * 100,
        "empty": b"",
        "cut": data[:-20],
        "page": data[:4] + b"\xff" * 4000 + data[4004:],
    }
    bad.write_bytes(damaged[damage])
    error = failure({"kind": "parquet", "path": str(tmp_path / "l")}, tmp_path)
    assert isinstance(error, SourceError)
    assert str(error).startswith(f"{bad} is not readable as Parquet")


def test_rows_keep_their_order_over_many_row_groups(tmp_path: Path) -> None:
    """The first of equal addresses is live; here that is the even one of each pair, 60,000 rows apart."""
    rows = 120_000
    given = [f"http://h.example/{i % (rows // 2)}" for i in range(rows)]
    path = tmp_path / "l.parquet"
    pq.write_table(pa.table({"url": given, "n": range(rows)}), path, row_group_size=4096)
    settings = SourceSettings(kind="parquet", path=str(path), columns={"keep": ["n"]})  # type: ignore[arg-type]
    with Scratch("64MB") as scratch:
        read = pa.concat_tables(list(open_parquet(settings, "source", scratch).batches()))
    assert read["n"].to_pylist() == list(range(rows))
