"""The score stage with models: columns and rules over them, on both engines; what is refused, and when; identity."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.errors import ConfigError
from curation.fragments import read_manifest
from curation.stage import kept_rows
from pipelines.curate import make_stages, plan, run
from pipelines.engines import Engine
from tests.journey import config, outcomes, stage_folder
from tests.on_ray import on_ray
from tests.score.test_aesthetic import head
from tests.small_origin import small_origin
from tests.tiny_models import CLIP_WIDTH

ROWS = 40
"""Every tenth is missing."""
STAGES: dict[str, dict[str, Any]] = {
    "fetch": {"min_side": 64},
    "select": {"dedup": {"exact": "none"}},
    "pack": {"resolution": 64, "buckets": "none"},
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("origin") / "list.parquet"
    with small_origin(ROWS, path):
        yield path


@pytest.fixture(scope="module")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    path = tmp_path_factory.mktemp("head") / "head.pth"
    torch.save(head((CLIP_WIDTH, 8, 1)).state_dict(), path)
    return path


@pytest.fixture
def score(clip_folder: Path, classifier_folder: Path, head_file: Path) -> dict[str, Any]:
    """Settings with an operator of each sort."""
    return {
        "ops": ["clip", "aesthetic", "safety", "sharpness", "phash", "tests.score.operators:Redness"],
        "clip": str(clip_folder),
        "aesthetic": str(head_file),
        "classifiers": {"safety": {"model": str(classifier_folder), "labels": ["nsfw"]}},
        "run": {"batch": 16, "workers": 1},
    }


def scored(output: Path) -> dict[str, dict[str, Any]]:
    """Rows by uid."""
    folder = stage_folder(output, "score")
    manifest = read_manifest(folder)
    assert manifest is not None
    rows = kept_rows(folder, [f.name for f in manifest.fragments]).to_pylist()
    assert len(rows) == manifest.counts.rows == ROWS * 9 // 10
    return {row["uid"]: row for row in rows}


SCORES = ("clip_similarity", "aesthetic", "safety", "redness")


@pytest.fixture(scope="module")
def reference(
    listed: Path,
    tmp_path_factory: pytest.TempPathFactory,
    clip_folder: Path,
    classifier_folder: Path,
    head_file: Path,
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A local run of the whole, and its rows."""
    output = tmp_path_factory.mktemp("reference")
    settings = score.__wrapped__(clip_folder, classifier_folder, head_file)  # type: ignore[attr-defined]
    run(config(listed, output, **STAGES, score=settings), engine="local")
    return output, scored(output)


def test_every_row_has_every_score(reference: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    for row in reference[1].values():
        assert all(row[name] is not None for name in SCORES)
        assert len(row["clip_embedding"]) == CLIP_WIDTH
        assert 0 < row["safety"] < 1
        # One decode for all, at the largest side that an operator asked for: the models take 32 pixels, `Redness` 64.
        assert row["came"] == "RGB 96x72"
        ops = [spent["op"] for spent in row["score_us"]]
        assert ops == ["decode", "clip", "aesthetic", "safety", "tests.score.operators:Redness"]
        assert all(spent["us"] > 0 for spent in row["score_us"])


@pytest.mark.parametrize(("engine", "first"), [("local", "safety"), ("ray", "tests.score.operators:Redness")])
def test_rules_use_scores(
    reference: tuple[Path, dict[str, dict[str, Any]]],
    listed: Path,
    score: dict[str, Any],
    ray_engine: Engine,
    engine: str,
    first: str,
) -> None:
    output, rows = reference
    middle = {name: sorted(row[name] for row in rows.values())[len(rows) // 4] for name in SCORES[:2]}
    where = f"clip_similarity > {middle['clip_similarity']} and aesthetic > {middle['aesthetic']} and safety < 0.5"
    # Another order and another batch size, and on Ray another process: the same scores.
    ops = [first, *(op for op in score["ops"] if op != first)]
    again = {**score, "ops": ops, "run": {"batch": 5, "workers": 1}}
    stages = {**STAGES, "select": {"where": where, **STAGES["select"]}, "score": again}
    ran = on_ray(ray_engine, "score") if engine == "ray" else {"engine": engine}
    run(config(listed, output, **stages), **ran)
    for uid, row in scored(output).items():
        assert [row[name] for name in SCORES] == pytest.approx([rows[uid][name] for name in SCORES], abs=5e-5)
    kept = {url for url, (outcome, _) in outcomes(output, "select").items() if outcome == "kept"}
    expected = {
        row["url"]
        for row in rows.values()
        if row["clip_similarity"] > middle["clip_similarity"] + 1e-4
        and row["aesthetic"] > middle["aesthetic"] + 1e-4
        and row["safety"] < 0.5 - 1e-4
    }
    assert expected
    assert expected <= kept
    assert len(kept - expected) <= 3  # on a threshold's edge
    packed = stage_folder(output, "pack")
    assert len(list((Path(packed.url) / "shards").glob("*.tar"))) > 0


def _replaced(settings: dict[str, Any], **new: Any) -> dict[str, Any]:
    return {**settings, **new}


def test_broken_models_are_refused_before_any_work(
    listed: Path, tmp_path: Path, score: dict[str, Any], clip_folder: Path, head_file: Path
) -> None:
    cut = shutil.copytree(clip_folder, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    wordless = shutil.copytree(clip_folder, tmp_path / "wordless")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (wordless / name).unlink()
    safety = score["classifiers"]["safety"]
    cases = [
        ("stages.score.clip", "no folder", _replaced(score, clip=str(tmp_path / "none"))),
        ("stages.score.clip", "damaged", _replaced(score, clip=str(cut))),
        ("stages.score.clip", "are its files there", _replaced(score, clip=str(wordless))),
        ("stages.score.aesthetic", "No such file", _replaced(score, aesthetic=str(tmp_path / "none.pth"))),
        ("stages.score.aesthetic", "missing", _replaced(score, aesthetic=None)),
        ("stages.score.ops.0", "put `clip` before it", _replaced(score, ops=["aesthetic", "clip"])),
        ("stages.score.ops.1", "named twice", _replaced(score, ops=["safety", "safety"])),
        ("stages.score.ops.1", "no operator 'watermark'", _replaced(score, ops=["clip", "watermark"])),
        (
            "stages.score.classifiers.safety.labels",
            "normal, nsfw",
            _replaced(score, classifiers={"safety": _replaced(safety, labels=["bad"])}),
        ),
    ]
    for path, message, settings in cases:
        for start in (plan, lambda given: run(given, engine="local")):
            with pytest.raises(ConfigError, match=message) as caught:
                start(config(listed, tmp_path / "out", **STAGES, score=settings))
            assert caught.value.path == path
    assert not list((tmp_path / "out").glob("*/*"))


def test_models_on_the_hub_need_no_network_to_plan(listed: Path, tmp_path: Path, head_file: Path) -> None:
    settings = {
        "ops": ["clip", "aesthetic", "safety"],
        "aesthetic": str(head_file),
        "classifiers": {"safety": {"model": "no-one/no-such-model", "labels": ["nsfw"]}},
    }
    stages = {**STAGES, "select": {"where": "aesthetic > 5 and safety < 0.5 and clip_similarity > 0.2"}}
    assert "score" in [p.stage for p in plan(config(listed, tmp_path, **stages, score=settings))]


def test_what_a_model_holds_is_part_of_the_identity(
    listed: Path, tmp_path: Path, score: dict[str, Any], clip_folder: Path, head_file: Path
) -> None:
    def folder(**new: Any) -> str:
        stages = make_stages(config(listed, tmp_path / "out", **STAGES, score=_replaced(score, **new)))
        return next(stage.folder.url for stage in stages if stage.name == "score")

    first = folder()
    unused = {**score["classifiers"], "watermark": score["classifiers"]["safety"]}
    assert folder(run={"batch": 3}, classifiers=unused) == first  # speed, and what no operator uses
    assert folder(ops=[op for op in score["ops"] if op not in ("sharpness", "phash")]) == first
    assert folder(ops=["clip"]) != first

    clip = shutil.copytree(clip_folder, tmp_path / "clip")
    before = folder(clip=str(clip))
    assert before == first  # where it lies does not matter
    (clip / "README.md").write_text("a model card")
    assert folder(clip=str(clip)) == before
    weights = bytearray((clip / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (clip / "model.safetensors").write_bytes(weights)
    assert folder(clip=str(clip)) != before

    other = tmp_path / "head.pth"
    shutil.copy(head_file, other)
    assert folder(aesthetic=str(other)) == first
    other.write_bytes(other.read_bytes() + b"\0")
    assert folder(aesthetic=str(other)) != first


def test_speed_is_logged(listed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"ops": ["tests.score.operators:Redness"], "run": {"batch": 7}}
    with caplog.at_level("INFO", "curation.score.stage"):
        run(config(listed, tmp_path, **STAGES, score=settings), engine="local")
    said = [record.getMessage() for record in caplog.records if record.name == "curation.score.stage"]
    assert [line.split(" images")[0] for line in said] == [f"scored {ROWS * 9 // 10}"]
    assert "images/s (decode " in said[0]


def test_gpus_that_are_not_there_are_said_before_any_work(listed: Path, tmp_path: Path, score: dict[str, Any]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    given = config(listed, tmp_path, **STAGES, score=_replaced(score, run={"gpus": 1}))
    with pytest.raises(ConfigError, match="torch sees none") as caught:
        run(given, engine="local")
    assert caught.value.path == "stages.score.run.gpus"
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
