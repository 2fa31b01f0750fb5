"""What a report knows: the funnel adds up, distributions and samples are those of the rows, in any state of a run."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from PIL import Image

from curation.errors import RunError, StorageError
from curation.report.collect import collect
from curation.report.facts import Histogram, RunFacts
from curation.report.samples import KEPT_SAMPLES, PER_REASON
from curation.row import Outcome, Reason
from curation.run_log import RUN_FILE
from curation.storage import Folder
from tests.report.make_run import FOLDERS, Made, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_run(Folder(tmp_path_factory.mktemp("run") / "out"))


@pytest.fixture(scope="module")
def facts(made: Made) -> RunFacts:
    return collect(made.output)


def histogram(facts: RunFacts, key: str) -> Histogram:
    return next(h for h in facts.histograms if h.key == key)


def check_funnel(facts: RunFacts) -> None:
    before = None
    for stage in facts.stages:
        assert stage.kept + stage.rejected + stage.failed == stage.rows
        assert stage.rows + stage.pending == stage.rows_in
        assert before is None or stage.rows_in == before
        for outcome, total in ((Outcome.REJECTED, stage.rejected), (Outcome.FAILED, stage.failed)):
            assert sum(r.count for r in stage.reasons if r.outcome is outcome) == total
        before = stage.kept


def test_the_funnel_is_that_of_the_rows(made: Made, facts: RunFacts) -> None:
    check_funnel(facts)
    for stage in facts.stages:
        verdicts = Counter(verdict.reason for _, verdict in made.rows[stage.name])
        assert stage.state == "done"
        assert stage.pending == 0
        assert stage.kept == verdicts.pop(None, 0)
        assert {r.reason: r.count for r in stage.reasons} == verdicts
    assert (facts.rows_in, facts.rows_kept) == (240, len(made.kept("pack")))


def test_distributions_count_measured_and_kept_rows(made: Made, facts: RunFacts) -> None:
    measured = [row for row, _ in made.rows["fetch"] if row.get("width")]
    kept = made.kept("pack")
    for key in ("short_side", "megapixels", "aspect", "bytes", "caption_words", "column:pwatermark"):
        h = histogram(facts, key)
        assert (sum(h.before), sum(h.after)) == (len(measured), len(kept)), key
    assert sum(histogram(facts, "sharpness").before) == len(made.kept("fetch"))
    sides = histogram(facts, "short_side")
    expected = [0] * len(sides.before)
    for row in measured:
        side = min(row["width"], row["height"])
        expected[max(i for i, edge in enumerate(sides.edges[:-1]) if edge <= side + 1e-6)] += 1
    assert list(sides.before) == expected
    assert facts.heat is not None
    assert sum(facts.heat.before.values()) == len(measured)
    assert sum(facts.heat.after.values()) == len(kept)


def test_thresholds_of_the_config_are_drawn(facts: RunFacts) -> None:
    limits = {h.key: [value for value, _ in h.limits] for h in facts.histograms}
    assert limits["short_side"] == [768]
    assert limits["aspect"] == [0.5, 2]
    assert limits["sharpness"] == [40]
    assert limits["column:pwatermark"] == [0.6]


def test_median_is_near(made: Made, facts: RunFacts) -> None:
    sides = sorted(min(r["width"], r["height"]) for r, _ in made.rows["fetch"] if r.get("width"))
    h = histogram(facts, "short_side")
    assert h.median(h.before) == pytest.approx(sides[len(sides) // 2], rel=0.1)
    assert h.median((0,) * len(h.before)) is None


def test_network_sums(made: Made, facts: RunFacts) -> None:
    rows = [row for row, _ in made.rows["fetch"]]
    assert facts.network.received == sum(row["bytes_received"] for row in rows)
    assert facts.network.saved == sum(row.get("bytes_saved") or 0 for row in rows)
    assert facts.network.stopped_early == sum(1 for row in rows if row.get("bytes_saved"))
    assert dict(facts.network.statuses) == Counter(row["status"] for row in rows if row["status"])
    failed = Counter(r["url"].split("/")[2] for r, v in made.rows["fetch"] if v.outcome is Outcome.FAILED)
    worst = facts.network.hosts
    assert [h.failed for h in worst] == [n for _, n in failed.most_common(len(worst))]
    assert all(failed[h.host] == h.failed and h.kept + h.failed <= h.rows for h in worst)


def test_kept_samples_are_pictures_of_kept_rows(made: Made, facts: RunFacts) -> None:
    kept = {row["uid"]: row for row in made.kept("pack")}
    assert len(facts.kept) == min(KEPT_SAMPLES, len(kept))
    assert len({s.uid for s in facts.kept}) == len(facts.kept)
    for sample in facts.kept:
        row = kept[sample.uid]
        assert (sample.url, sample.width) == (row["url"], row["width"])
        assert sample.caption.strip() == f"packed: {row['alt_text']}".strip()
        assert sample.thumbnail is not None
        width, height = Image.open(io.BytesIO(sample.thumbnail.jpeg)).size
        assert max(width, height) <= 256
        bucket_width, _, bucket_height = row["bucket"].partition("x")
        assert width / height == pytest.approx(int(bucket_width) / int(bucket_height), rel=0.02)
        assert ("pwatermark", f"{row['pwatermark']:.2g}") in sample.columns


def test_each_reason_has_samples_of_its_own(made: Made, facts: RunFacts) -> None:
    reasons = {row["uid"]: (name, v.reason) for name, judged in made.rows.items() for row, v in judged if v.reason}
    assert sum(group.count for group in facts.rejected) == len(reasons)
    for group in facts.rejected:
        assert 0 < len(group.samples) == min(PER_REASON, group.count)
        assert all(reasons[s.uid] == (group.stage, group.reason) for s in group.samples)
        # Select's dropped rows carry neither size nor pixels: those come from fetch.
        if group.stage == "select":
            assert all(s.thumbnail and s.width and s.height for s in group.samples)
        if group.reason == Reason.TOO_SMALL:
            assert all(s.thumbnail is None and s.width and s.height for s in group.samples)


def test_duplicates_are_shown_beside_the_row_that_stayed(made: Made, facts: RunFacts) -> None:
    winners = {row["uid"] for row in made.kept("select")}
    (group,) = [g for g in facts.rejected if g.reason == Reason.NEAR_DUPLICATE]
    assert all(s.twin in winners and s.twin_thumbnail for s in group.samples)


def test_the_same_run_gives_the_same_facts(made: Made, facts: RunFacts) -> None:
    assert collect(made.output) == facts


def test_the_seed_chooses_other_samples(tmp_path: Path, facts: RunFacts) -> None:
    other = collect(make_run(Folder(tmp_path), overrides={"seed": 7}).output)
    assert [s.uid for s in other.kept] != [s.uid for s in facts.kept]


def test_the_corpus_is_that_of_the_shards(made: Made, facts: RunFacts) -> None:
    sizes = made.stage("pack").child("shards").sizes()
    assert (facts.corpus.shards, facts.corpus.bytes) == (len(sizes), sum(sizes.values()))
    assert facts.corpus.samples == len(made.kept("pack"))
    buckets = {f"{w}x{h}": n for w, h, n in facts.corpus.buckets}
    assert buckets == Counter(row["bucket"] for row in made.kept("pack"))
    aspects = [w / h for w, h, _ in facts.corpus.buckets]
    assert aspects == sorted(aspects)


def test_where_a_shard_is_damaged_the_bank_serves(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path))
    packed = tmp_path / FOLDERS["pack"] / "shards" / "00000.tar"
    packed.write_bytes(bytes(packed.stat().st_size))
    facts = collect(made.output)
    assert all(s.thumbnail and not s.caption.startswith("packed") for s in facts.kept)


def test_missing_pixels_leave_a_tile_without_picture(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path), upto="select")
    fetch = made.stage("fetch")
    for name in fetch.sizes():
        if name.endswith(".tar"):
            fetch.delete(name)
    facts = collect(made.output)
    assert facts.kept
    assert all(s.thumbnail is None and s.width for s in facts.kept)


def test_damaged_pixels_are_not_shown(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path), upto="select")
    row = min(made.kept("select"), key=lambda row: row["uid"])
    tar = tmp_path / FOLDERS["fetch"] / row["tar"]
    data = bytearray(tar.read_bytes())
    data[row["offset"] + row["length"] // 2] ^= 255
    tar.write_bytes(data)
    pictures = {s.uid: s.thumbnail for s in collect(made.output).kept}
    assert pictures.pop(row["uid"], None) is None
    assert all(pictures.values())


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
    with pytest.raises(RunError, match=r"run\.json"):
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


# -- elsewhere ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Folder]:
    folder = Folder(f"memory://{uuid4().hex}")
    yield folder
    fsspec.filesystem("memory").rm(folder.root, recursive=True)


def test_an_object_store_gives_the_same_report(memory: Folder, facts: RunFacts) -> None:
    make_run(memory)
    found = collect(memory)
    assert (found.stages, found.histograms, found.heat) == (facts.stages, facts.histograms, facts.heat)
    assert found.kept == facts.kept


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: RunFacts) -> None:
    monkeypatch.chdir(tmp_path)
    assert collect(make_run(Folder("out")).output).stages == facts.stages
