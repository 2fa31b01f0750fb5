"""Reports of runs that failed, were stopped or still go on, and of folders that hold none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.errors import ConfigError, RunError, StorageError
from curation.report.collect import collect
from curation.report.facts import RunFacts
from curation.row import Reason
from curation.run_log import RUN_FILE
from curation.storage import Folder
from tests.report.checks import check_funnel, histogram
from tests.report.make_run import FOLDERS, make_run

# -- runs that are not done -------------------------------------------------------------------------------------------


def test_an_unfinished_stage_counts_what_is_committed(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path), upto="fetch", unfinished=True, status="running")
    fetch = made.stage("fetch")
    gone = sorted(name for name in fetch.sizes() if name.startswith("p000001"))
    for name in gone:
        fetch.delete(name)
    facts = collect(made.output)
    check_funnel(facts)
    stage = facts.stages[1]
    assert (stage.state, facts.stages[2].state) == ("unfinished", "not started")
    assert stage.rows == len(made.rows["fetch"]) - 90
    assert stage.pending == 90
    assert facts.rows_kept == stage.kept > 0
    assert facts.kept
    assert facts.histograms


def test_a_row_that_was_committed_twice_counts_once(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path), upto="fetch", unfinished=True, status="failed", error="killed")
    fetch = made.stage("fetch")
    first = min(name for name in fetch.sizes() if name.endswith(".parquet"))
    fetch.write_table("p000000-ffffffff-end.parquet", fetch.read_table(first).slice(3, 20))
    facts = collect(made.output)
    check_funnel(facts)
    assert facts.stages[1].rows == len(made.rows["fetch"])
    assert sum(histogram(facts, "sharpness").before) == len(made.kept("fetch"))


def test_an_unfinished_list_counts_urls_that_come_twice(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path), upto="source", unfinished=True, status="running")
    stage = collect(made.output).stages[0]
    assert stage.rows == len(made.rows["source"])
    assert stage.kept == len(made.kept("source"))


def test_a_finished_stage_shows_only_what_its_manifest_names(tmp_path: Path, facts: RunFacts) -> None:
    made = make_run(Folder(tmp_path))
    fetch = made.stage("fetch")
    first = min(name for name in fetch.sizes() if name.endswith(".parquet"))
    fetch.write_table("p000000-ffffffff.parquet", fetch.read_table(first))
    again = collect(made.output)
    assert (again.stages, again.heat, again.network) == (facts.stages, facts.heat, facts.network)


def test_all_rows_rejected(tmp_path: Path) -> None:
    error = "no row is left after stage fetch"
    made = make_run(Folder(tmp_path), upto="fetch", reject_all=Reason.TOO_SMALL, status="failed", error=error)
    facts = collect(made.output)
    check_funnel(facts)
    assert facts.rows_kept == 0
    assert facts.kept == ()
    assert [g.reason for g in facts.rejected if g.stage == "fetch"] == [Reason.TOO_SMALL]
    assert all(sum(h.after) == 0 for h in facts.histograms)


def test_a_run_that_had_only_begun(tmp_path: Path) -> None:
    facts = collect(make_run(Folder(tmp_path), upto="source", unfinished=True, rows=0, status="running").output)
    assert facts.rows_in == 0
    assert {stage.state for stage in facts.stages} == {"not started"}
    assert (facts.histograms, facts.heat, facts.kept, facts.rejected) == ((), None, (), ())


# -- what cannot be reported -------------------------------------------------------------------------------------------


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.json"):
        collect(Folder(tmp_path))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"status": "elsewhere"}, "status"),
        ({"stages": [{"name": "fetch", "folder": "../../etc"}]}, r"stages\.0\.folder"),
        ({"stages": None}, "stages"),
    ],
)
def test_a_record_that_is_none(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    made = make_run(Folder(tmp_path), upto="source", rows=3)
    made.output.write_json(RUN_FILE, {**made.output.read_json(RUN_FILE), **change})
    with pytest.raises(RunError, match=place):
        collect(made.output)


def test_a_fragment_that_is_gone_or_broken(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path))
    fetch = made.stage("fetch")
    name = max(name for name in fetch.sizes() if name.endswith(".parquet"))
    (tmp_path / FOLDERS["fetch"] / name).write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(StorageError):
        collect(made.output)
    fetch.delete(name)
    with pytest.raises(StorageError):
        collect(made.output)
