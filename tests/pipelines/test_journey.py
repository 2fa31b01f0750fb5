"""The whole journey over a web whose truth is known: every row ends as it should, and both engines agree."""

from __future__ import annotations

from pathlib import Path

from curation.explain import explain
from curation.fragments import read_manifest
from curation.fsck import fsck
from curation.run_log import read_run
from curation.scenes.exhibits import expected
from curation.storage import Folder
from pipelines.curate import plan, run
from pipelines.engines import Engine
from tests.conftest import OpenGallery
from tests.journey import config, corpus_bytes, kept_url, outcomes, stage_folder
from tests.on_ray import on_ray


def test_every_row_ends_as_the_gallery_knows(gallery: OpenGallery, done: Path) -> None:
    found = outcomes(done, "source") | outcomes(done, "fetch")
    wrong = []
    for exhibit in gallery.gallery.exhibits:
        if exhibit.kind == "same_url":
            continue
        outcome, reason = found[gallery.gallery.url(exhibit)]
        allowed = expected(exhibit, min_side=1024, max_aspect=2.0)
        if (reason or outcome) not in allowed:
            wrong.append((exhibit.kind, reason or outcome, sorted(allowed)))
    assert not wrong


def test_no_row_vanishes(gallery: OpenGallery, done: Path) -> None:
    stages = read_run(Folder(done))["stages"]
    manifests = [read_manifest(Folder(done).child(s["folder"])) for s in stages]
    assert [s["name"] for s in stages] == ["source", "fetch", "select", "layout", "pack"]
    rows = len(gallery.gallery.exhibits)
    for manifest in manifests:
        assert manifest is not None
        counts = manifest.counts
        assert counts.rows == rows
        assert counts.kept + counts.rejected + counts.failed == rows
        rows = counts.kept
    assert rows > 10
    assert fsck(Folder(done), deep=True) == []


def test_duplicates_by_content_are_dropped(gallery: OpenGallery, done: Path) -> None:
    found = outcomes(done, "select")
    reasons = {found[gallery.gallery.url(e)][1] for e in gallery.gallery.exhibits if e.kind == "same_bytes"}
    assert reasons <= {"duplicate_bytes", None}
    kinds = {e.twin_of: e for e in gallery.gallery.exhibits if e.kind == "same_bytes"}
    assert kinds
    for index, twin in kinds.items():
        assert index is not None
        original = gallery.gallery.exhibits[index]
        pair = [found[gallery.gallery.url(e)] for e in (original, twin)]
        assert sum(outcome == "kept" for outcome, _ in pair) <= 1


def test_ray_packs_the_same_bytes(gallery: OpenGallery, done: Path, tmp_path: Path, ray_engine: Engine) -> None:
    run(config(gallery.listed, tmp_path), **on_ray(ray_engine))
    assert corpus_bytes(tmp_path) == corpus_bytes(done)
    for stage in ("source", "fetch", "select", "layout", "pack"):
        assert outcomes(tmp_path, stage) == outcomes(done, stage)
    assert fsck(Folder(tmp_path), deep=True) == []


def test_changed_threshold_fetches_nothing(gallery: OpenGallery, done: Path) -> None:
    same = config(gallery.listed, done)
    assert {p.state for p in plan(same)} == {"cached"}
    changed = config(gallery.listed, done, select={"where": "width >= 1100"})
    assert [p.state for p in plan(changed)] == ["cached", "cached", "to run", "to run", "to run"]
    before = corpus_bytes(done)
    result = run(changed, engine="local")
    cached = {s["name"]: s["cached"] for s in read_run(Folder(done))["stages"]}
    assert cached == {"source": True, "fetch": True, "select": False, "layout": False, "pack": False}
    assert result.manifest.counts.kept > 0
    assert corpus_bytes(done) != before
    # The first corpus is still there: it is found again without any work.
    run(same, engine="local")
    assert all(s["cached"] for s in read_run(Folder(done))["stages"])
    assert corpus_bytes(done) == before


def test_explain_tells_the_whole_journey(gallery: OpenGallery, done: Path) -> None:
    found = outcomes(done, "fetch")
    small = next(e for e in gallery.gallery.exhibits if found.get(gallery.gallery.url(e), ("", ""))[1] == "too_small")
    steps = explain(Folder(done), gallery.gallery.url(small))
    assert [s.stage for s in steps] == ["source", "fetch"]
    assert "rejected: too_small" in steps[-1].text()
    kept = kept_url(gallery.gallery, done)
    steps = explain(Folder(done), kept)
    assert [s.stage for s in steps] == ["source", "fetch", "select", "layout", "pack"]
    row = steps[0].row
    assert row is not None
    assert [s.text() for s in explain(Folder(done), row["uid"])] == [s.text() for s in steps]


def test_stored_pixels_hold_no_position(gallery: OpenGallery, done: Path) -> None:
    rotated = [gallery.gallery.url(e) for e in gallery.gallery.exhibits if e.kind == "rotated"]
    assert any(outcomes(done, "fetch")[url][0] == "kept" for url in rotated)
    for path in [*Path(stage_folder(done, "fetch").url).glob("*.tar"), *done.rglob("shards/*.tar")]:
        assert b"Exif" not in path.read_bytes()
