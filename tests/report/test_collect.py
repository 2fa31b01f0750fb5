"""What a report knows: the funnel adds up, distributions and samples are those of the rows, wherever they lie."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from PIL import Image

from curation.report.collect import collect
from curation.report.facts import RunFacts
from curation.report.samples import KEPT_SAMPLES, PER_REASON
from curation.row import Outcome, Reason
from curation.storage import Folder
from tests.report.checks import check_funnel, histogram
from tests.report.make_run import FOLDERS, Made, make_run


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
    dropped = {
        (name, v.reason, row["uid"], row["url"]) for name, judged in made.rows.items() for row, v in judged if v.reason
    }
    assert sum(group.count for group in facts.rejected) == sum(s.rejected + s.failed for s in facts.stages)
    for group in facts.rejected:
        assert 0 < len(group.samples) == min(PER_REASON, group.count)
        assert {(group.stage, group.reason, s.uid, s.url) for s in group.samples} <= dropped
        # Select's dropped rows carry neither size nor pixels: those come from fetch.
        if group.stage == "select":
            assert all(s.thumbnail and s.width and s.height for s in group.samples)
        # A URL that comes twice has the uid of the row that stayed, but nothing else of it.
        if group.stage == "source":
            assert not any(s.thumbnail or s.width or s.twin for s in group.samples)
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
