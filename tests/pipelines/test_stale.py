"""Who deletes a stage's folder gets all that comes after it anew; what killed runs leave is told and removed."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.config import Config
from curation.errors import RunError
from curation.explain import explain
from curation.fragments import MANIFEST
from curation.fsck import fsck
from curation.storage import Folder
from curation.upstream import UPSTREAM
from pipelines.curate import plan, run
from tests.journey import config, corpus_bytes, stage_folder
from tests.small_origin import small_origin

ROWS = 30


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("list") / "list.parquet"
    with small_origin(ROWS, path):
        yield path


def small(listed: Path, output: Path, **fetch: object) -> Config:
    return config(listed, output, fetch={"min_side": 64, **fetch}, pack={"resolution": 64, "shard_samples": 8})


def test_a_stage_that_was_deleted_is_made_anew_with_all_after_it(listed: Path, tmp_path: Path) -> None:
    given = small(listed, tmp_path)
    run(given, engine="local")
    before = corpus_bytes(tmp_path)
    states = [planned.state for planned in plan(given)]
    assert states == ["cached"] * 5
    table = Path(stage_folder(tmp_path, "fetch").url)
    shutil.rmtree(table)
    assert [planned.state for planned in plan(given)] == ["cached", *["to run"] * 4]
    assert any("fetch" in finding.what and finding.wrong for finding in fsck(Folder(tmp_path)))
    made = [Path(stage_folder(tmp_path, name).url) / MANIFEST for name in ("select", "layout", "pack")]
    times = [path.stat().st_mtime_ns for path in made]
    run(given, engine="local")
    assert all(path.stat().st_mtime_ns > then for path, then in zip(made, times, strict=True))
    assert fsck(Folder(tmp_path), deep=True) == []
    assert corpus_bytes(tmp_path) == before


def test_a_stage_of_another_table_is_told_and_begins_again(listed: Path, tmp_path: Path) -> None:
    """As after a run that was killed between the stage that was deleted and the next."""
    given = small(listed, tmp_path)
    run(given, engine="local")
    select = stage_folder(tmp_path, "select")
    select.write_json(UPSTREAM, {"sha256": "of yesterday"})
    told = [finding.what for finding in fsck(Folder(tmp_path))]
    assert [what.partition("-")[0] for what in told] == ["is of an earlier select", "is of an earlier fetch"]
    select.delete(MANIFEST)  # half of it was deleted, and its fragments stay
    run(given, engine="local")
    assert fsck(Folder(tmp_path)) == []


def test_beginnings_of_shards_are_told_and_removed(listed: Path, tmp_path: Path) -> None:
    given = small(listed, tmp_path)
    run(given, engine="local")
    pack = Path(stage_folder(tmp_path, "pack").url)
    (pack / MANIFEST).unlink()
    next(pack.glob("p*.parquet")).unlink()  # the commit of one shard
    (pack / "shards/00001.tar.tmp-ab").write_bytes(b"begin")
    shards = len(list(pack.glob("shards/*.tar")))
    found = fsck(Folder(tmp_path), repair=True)
    assert [finding.what for finding in found] == [
        "unfinished; the next run goes on with it",
        *["of a run that was killed; removed"] * 2,
    ]
    assert len(list(pack.glob("shards/*"))) == shards - 1
    run(given, engine="local")
    assert fsck(Folder(tmp_path), deep=True) == []


def test_what_is_no_url_is_found_by_what_the_list_says(tmp_path: Path, listed: Path) -> None:
    urls = [*pq.read_table(listed)["URL"].to_pylist(), "not a url", "http://example.com\\x"]
    pq.write_table(pa.table({"URL": urls, "TEXT": ["a picture"] * len(urls)}), tmp_path / "list.parquet")
    run(small(tmp_path / "list.parquet", tmp_path / "out"), engine="local")
    for row in urls[-2:]:
        (step,) = explain(Folder(tmp_path / "out"), row)
        assert step.row is not None
        assert (step.stage, step.row["reason"]) == ("source", "invalid_url")


def test_a_fetch_that_only_the_network_failed_is_tried_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/{n}.jpg" for n in range(4)]  # where nobody listens any more
    pq.write_table(pa.table({"URL": urls, "TEXT": ["a"] * len(urls)}), tmp_path / "away.parquet")
    away = small(tmp_path / "away.parquet", tmp_path / "out", connect_timeout_s=1, retries=0)
    for _ in range(2):
        with pytest.raises(RunError, match=r"no row is left after stage fetch: .*the same command tries again"):
            run(away, engine="local")
        assert plan(away)[1].state == "to run"


def test_stages_of_earlier_settings_are_no_faults(listed: Path, tmp_path: Path) -> None:
    """Their folders may be deleted one by one."""
    run(small(listed, tmp_path), engine="local")
    earlier = Path(stage_folder(tmp_path, "select").url)
    given = config(listed, tmp_path, fetch={"min_side": 64}, select={"where": "width > 70"}, pack={"resolution": 64})
    run(given, engine="local")
    shutil.rmtree(earlier)
    (finding,) = fsck(Folder(tmp_path))
    assert not finding.wrong
    assert "no run needs it any more" in finding.what
