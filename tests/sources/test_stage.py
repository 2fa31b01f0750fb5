"""The stage as a whole: every row once, several lists in one table, and the same bytes from a second run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.config import SourceSettings
from curation.errors import ConfigError, RunError, StorageError
from curation.row import OUTCOME_FIELDS, SOURCE_FIELDS
from curation.sources import stage
from curation.sources.scratch import scratch_errors
from curation.sources.source import Source
from curation.sources.stage import MOST_PARTITIONS, build_source, rows_per_partition
from curation.storage import Folder
from tests.sources.built import build, fragments_of, reasons


def parquet(path: Path, **columns: Any) -> dict[str, Any]:
    pq.write_table(pa.table(columns), path)
    return {"kind": "parquet", "path": str(path)}


def urls(count: int, hosts: int = 7) -> list[str]:
    return [f"http://h{i % hosts}.example/{i}" for i in range(count)]


def tree(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_every_row_comes_out_once(tmp_path: Path) -> None:
    given = [*urls(2500), None, "bad", *urls(300), "bad", ""]
    settings = parquet(tmp_path / "l.parquet", url=given, n=range(len(given)))
    table = build(tmp_path / "out", {**settings, "columns": {"keep": ["n"]}})
    assert sorted(table["n"].to_pylist()) == list(range(len(given)))
    assert reasons(table) == {None: 2500, "invalid_url": 4, "duplicate_url": 300}
    live = [row["n"] for row in table.to_pylist() if row["outcome"] == "kept"]
    assert sorted(live) == list(range(2500))  # the first in the list's order is the one that stays
    assert table.schema.names == [f.name for f in SOURCE_FIELDS] + ["n"] + [f.name for f in OUTCOME_FIELDS]


def test_partitions(tmp_path: Path) -> None:
    settings = parquet(tmp_path / "l.parquet", url=urls(2345))
    fragments = fragments_of(tmp_path / "out", settings)
    assert [f.counts.rows for f in fragments] == [1000, 1000, 345]
    assert sorted(f.name for f in fragments) == sorted(os.listdir(tmp_path / "out"))
    assert all(f.name.endswith("-end.parquet") for f in fragments)


def test_rows_per_partition() -> None:
    assert {rows_per_partition(n) for n in (1, 1000, 20_000, 1_000_000)} == {1000}
    sizes = [10**k for k in range(6, 12)]
    for rows in sizes:
        assert math.ceil(rows / rows_per_partition(rows)) <= MOST_PARTITIONS
    assert sorted({rows_per_partition(n) for n in sizes}) == [rows_per_partition(n) for n in sizes]


def test_a_second_run_gives_the_same_files(tmp_path: Path) -> None:
    settings = parquet(tmp_path / "l.parquet", url=urls(3000))
    first = fragments_of(tmp_path / "a", settings)
    assert fragments_of(tmp_path / "b", settings) == first
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    other = fragments_of(tmp_path / "c", settings, seed=1)
    assert {f.name for f in other}.isdisjoint(f.name for f in first)


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    settings = parquet(tmp_path / "l.parquet", url=urls(1500))
    whole = fragments_of(tmp_path / "whole", settings)
    out = tmp_path / "out"
    out.mkdir()
    (out / "p000007-0123abcd-end.parquet").write_bytes(b"of another list")
    (out / f"p000000-0123abcd-end.parquet.tmp-{os.getpid()}-00000000").write_bytes(b"torn")
    assert fragments_of(out, settings) == whole
    assert tree(out) == tree(tmp_path / "whole")


def test_kill_and_run_again(tmp_path: Path) -> None:
    """kill -9 while fragments are being written; what a second run leaves is what an uninterrupted one leaves."""
    settings = parquet(tmp_path / "l.parquet", url=urls(40_000))
    program = (
        "import sys; from tests.sources.built import fragments_of; "
        "fragments_of(sys.argv[1], {'kind': 'parquet', 'path': sys.argv[2]})"
    )
    out, scratch = tmp_path / "out", tmp_path / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    arguments = [sys.executable, "-c", program, str(out), settings["path"]]
    process = subprocess.Popen(arguments, env=environment, cwd=Path(__file__).parents[2])
    while process.poll() is None and len(list(out.glob("*-end.parquet")) if out.is_dir() else []) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= len(list(out.glob("*-end.parquet"))) < 40
    whole = fragments_of(tmp_path / "whole", settings)
    assert fragments_of(out, settings) == whole
    assert tree(out) == tree(tmp_path / "whole")


def test_several_sources(tmp_path: Path) -> None:
    shared = "http://h.example/shared"
    one = parquet(tmp_path / "1.parquet", url=[shared, "http://h.example/1"], n=[1, 2], a=["x", "y"])
    (tmp_path / "2.csv").write_text(f"link,n,b,a\n{shared},0.5,true,\nhttp://h.example/2,1.5,false,\n")
    two = {"kind": "csv", "path": str(tmp_path / "2.csv")}
    table = build(
        tmp_path / "out",
        {"name": "one", **one, "columns": {"keep": ["n", "a"]}},
        {"name": "two", **two, "columns": {"url": "link", "keep": ["n", "b", "a"]}},
    )
    types = {name: str(table.schema.field(name).type) for name in ("n", "a", "b")}
    assert types == {"n": "double", "a": "string", "b": "bool"}
    rows = sorted(table.to_pylist(), key=lambda r: (r["source"], r["n"]))
    assert [(r["source"], r["url"][-1], r["n"], r["a"], r["b"], r["outcome"]) for r in rows] == [
        ("one", "d", 1.0, "x", None, "kept"),
        ("one", "1", 2.0, "y", None, "kept"),
        ("two", "d", 0.5, None, True, "kept"),
        ("two", "2", 1.5, None, False, "kept"),
    ]
    assert len(set(table["uid"].to_pylist())) == 4  # the same address in two sources is two rows


def test_types_that_clash(tmp_path: Path) -> None:
    one = {"name": "one", **parquet(tmp_path / "1.parquet", url=urls(1), n=[1])}
    two = {"name": "two", **parquet(tmp_path / "2.parquet", url=urls(1), n=["a"])}
    keep = {"columns": {"keep": ["n"]}}
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "out", {**one, **keep}, {**two, **keep})
    assert str(caught.value) == "source.1.columns.keep: 'n' is string here and int64 in source one"


def test_settings_of_several_sources_are_named_by_their_place(tmp_path: Path) -> None:
    one = {"name": "one", **parquet(tmp_path / "1.parquet", url=urls(1))}
    for change, path in (
        ({"path": "/nowhere"}, "source.1.path"),
        ({"columns": {"url": "x"}}, "source.1.columns.url"),
        ({"where": "x"}, "source.1.where"),
    ):
        with pytest.raises(ConfigError) as caught:
            build(tmp_path / "out", one, {**one, "name": "two", **change})
        assert caught.value.path == path


def test_names_that_sql_cannot_tell_apart(tmp_path: Path) -> None:
    settings = parquet(tmp_path / "1.parquet", URL=urls(1), text=["a"])
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "out", {**settings, "columns": {"url": "URL", "keep": ["text", "URL"]}})
    assert caught.value.path == "source.columns.keep"
    assert "'URL' differs from the corpus's column 'url' in nothing but case" in caught.value.problem


def test_odd_column_names_travel(tmp_path: Path) -> None:
    names = ["n", "host", "key", "c0", 'say "x"', "with space", "select", "curate", "place", "sample"]
    settings = parquet(tmp_path / "1.parquet", url=urls(2), **{name: [name, "y"] for name in names})
    table = build(tmp_path / "out", {**settings, "columns": {"keep": names}, "where": "\"select\" <> 'y'"})
    assert {name: table[name].to_pylist() for name in names} == {name: [name] for name in names}


def test_scratch_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    settings = parquet(tmp_path / "1.parquet", url=urls(10))
    build(tmp_path / "out", settings)
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(ConfigError):
        build(tmp_path / "out", {**settings, "where": "x"})
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    """A file system of 4 MB, which the scratch files fill."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount: {mounted.stderr.decode().strip()}")
    try:
        settings = parquet(tmp_path / "1.parquet", url=[f"http://h.example/{i:0200d}" for i in range(60_000)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(small))
            with pytest.raises(StorageError) as caught:
                build(tmp_path / "out", settings)
        assert "scratch files" in str(caught.value) or str(small) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_too_little_memory_is_a_clear_error() -> None:
    with pytest.raises(RunError, match="ordering the source's rows"), scratch_errors():
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to pin block")


def test_memory_does_not_grow_with_the_list(tmp_path: Path) -> None:
    """Three times the rows and more: peak memory grows by far less than the data do."""
    program = (
        "import sys; from curation.config import SourceSettings; from curation.storage import Folder; "
        "from curation.sources.stage import build_source; "
        "build_source([SourceSettings(kind='parquet', path=sys.argv[1])], Folder(sys.argv[2]), seed=0, "
        "scratch_memory='64MB'); "  # getrusage would report the parent's peak where that was higher
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )

    def peak_mb(rows: int) -> int:
        path = tmp_path / f"{rows}.parquet"
        with pq.ParquetWriter(path, pa.schema([("url", pa.string())])) as writer:
            for start in range(0, rows, 10_000):
                block = [f"http://h{i % 977}.example/{'x' * 1000}/{i}" for i in range(start, start + 10_000)]
                writer.write_table(pa.table({"url": block}))
        arguments = [sys.executable, "-c", program, str(path), str(tmp_path / f"out-{rows}")]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
        return int(done.stdout) // 1024

    small, large = peak_mb(50_000), peak_mb(170_000)
    assert large < small + 80  # megabytes; the 120,000 URLs more are 123 MB of text


def test_the_stage_that_engines_run(tmp_path: Path) -> None:
    settings = SourceSettings(**parquet(tmp_path / "1.parquet", url=urls(1200)))
    source = Source(Folder(tmp_path / "out"), [settings])
    manifest = source.run()
    assert (manifest.counts.rows, manifest.counts.kept) == (1200, 1200)
    assert source.schema.names[0] == "uid"
    again = Source(Folder(tmp_path / "out"), [settings])
    assert again.folder == source.folder
    assert again.manifest() == manifest


def test_where_a_list_lies_is_no_part_of_what_the_stage_is(tmp_path: Path) -> None:
    """Nor is the signature of its URL, which is another one each day."""
    parquet(tmp_path / "1.parquet", url=urls(3))
    fs = fsspec.filesystem("memory")
    fs.put(str(tmp_path / "1.parquet"), "/moved/1.parquet")
    places = [str(tmp_path / "1.parquet"), str(tmp_path), "memory://moved/1.parquet"]
    stages = [Source(Folder(tmp_path / "out"), [SourceSettings(kind="parquet", path=place)]) for place in places]
    assert len({stage.fingerprint for stage in stages}) == 1
    assert "moved" not in json.dumps(stages[2].identity), "a URL may have secrets"


def test_a_fragment_that_cannot_be_written_stops_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = stage._commit

    def failing(folder: Folder, partition: int, *rest: Any) -> Any:
        if partition == 2:
            raise StorageError("no space left on the device")
        return commit(folder, partition, *rest)

    monkeypatch.setattr(stage, "_commit", failing)
    settings = SourceSettings(**parquet(tmp_path / "1.parquet", url=urls(20_000)))
    with pytest.raises(StorageError, match="no space left"):
        build_source([settings], Folder(tmp_path / "out"), seed=0)
    assert len(os.listdir(tmp_path / "out")) < 19
