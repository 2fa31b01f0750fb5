"""The whole journey with scores and captions, by tiny models that are loaded by path as the large ones are."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.config import Config, PackSettings
from curation.errors import ConfigError
from curation.explain import explain
from curation.fragments import read_manifest
from curation.fsck import fsck
from curation.run_log import read_run
from curation.storage import Folder
from pipelines.curate import plan, run
from pipelines.engines import Engine
from tests.journey import config, corpus_bytes, stage_folder
from tests.on_ray import on_ray
from tests.small_origin import small_origin

ROWS = 30
BATCH = 6


@dataclass(frozen=True)
class World:
    listed: Path
    clip: Path
    llava: Path
    done: Path
    """Output of a finished run on the local engine."""

    def config(self, output: Path, **caption: Any) -> Config:
        settings = {
            "model": str(self.llava),
            "kinds": ["dense", "short"],
            "max_tokens": {"dense": 56, "short": 16},
            "words": {"dense": [5, 60], "short": [2, 30]},
            "max_side": 64,
            "min_similarity": -0.9,
            "clip": str(self.clip),
            "tokenizer": str(self.clip),
            "run": {"batch": BATCH},
            **caption,
        }
        return config(
            self.listed,
            output,
            fetch={"min_side": 64},
            score={"ops": ["clip"], "clip": str(self.clip)},
            select={"dedup": {"exact": "none", "phash": None}},
            caption=settings,
            pack={"resolution": 64, "buckets": "none", "primary": "dense"},
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path, llava_folder: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("captioned")
    with small_origin(ROWS, folder / "list.parquet"):
        world = World(folder / "list.parquet", clip_folder, llava_folder, folder / "out")
        run(world.config(world.done), engine="local")
        yield world


def captions(output: Path) -> list[dict[str, Any]]:
    folder = stage_folder(output, "caption")
    manifest = read_manifest(folder)
    assert manifest is not None
    table = pa.concat_tables([folder.read_table(fragment.name) for fragment in manifest.fragments])
    return table.drop_columns(["captioning_us", "tar", "offset"]).sort_by("uid").to_pylist()


def samples(output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Text and JSON of each packed sample."""
    for shard in sorted(Path(stage_folder(output, "pack").url).glob("shards/*.tar")):
        with tarfile.open(shard) as tar:
            texts: dict[str, str] = {}
            for member in tar:
                name, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                if extension == "txt":
                    texts[name] = file.read().decode()
                elif extension == "json":
                    yield texts[name], json.loads(file.read())


def test_captions_reach_the_shards(world: World) -> None:
    told = read_run(Folder(world.done))
    assert {"torch", "transformers"} <= set(told["versions"])
    stages = [stage["name"] for stage in told["stages"]]
    assert stages == ["source", "fetch", "score", "select", "caption", "layout", "pack"]
    kept = {row["uid"]: row for row in captions(world.done) if row["outcome"] == "kept"}
    packed = {data["uid"]: (text, data) for text, data in samples(world.done)}
    assert sorted(packed) == sorted(kept)
    assert len(packed) >= 5
    assert len({text for text, _ in packed.values()}) > 1
    for uid, (text, data) in packed.items():
        row = kept[uid]
        assert text == row["caption_dense"]
        assert [c["kind"] for c in data["captions"]] == ["dense", "alt", "short"]
        for caption, column in zip(data["captions"], ("caption_dense", "alt_text", "caption_short"), strict=True):
            assert (caption["text"], caption["tokens"]) == (row[column], row[f"{column}_tokens"])
            assert caption["tokens"] > 2
        assert [c["model"] for c in data["captions"]] == [world.llava.name, "", world.llava.name]
        assert sorted(data["scores"]) == [
            *("caption_dense_similarity", "caption_short_similarity", "clip_similarity", "sharpness")
        ]
        assert all(-1 <= data["scores"][name] <= 1 for name in data["scores"] if name != "sharpness")
        assert "captioning" not in json.dumps(data)
        assert "extra" not in data


def test_every_caption_has_an_outcome(world: World) -> None:
    manifest = read_manifest(stage_folder(world.done, "caption"))
    assert manifest is not None
    counts = manifest.counts
    assert counts.rows == ROWS * 9 // 10 == counts.kept + counts.rejected + counts.failed
    assert fsck(Folder(world.done), deep=True) == []
    rejected = [row for row in captions(world.done) if row["outcome"] == "rejected"]
    assert all(row["reason"].startswith("caption_") and "it wrote: " in row["detail"] for row in rejected)
    assert all(row["captioning_tries"] == 2 and row["caption_dense"] is None for row in rejected)
    uid = next(row["uid"] for row in captions(world.done) if row["outcome"] == "kept")
    assert [step.stage for step in explain(Folder(world.done), uid)] == (
        ["source", "fetch", "score", "select", "caption", "layout", "pack"]
    )


def test_nothing_of_this_machine_is_in_the_corpus(world: World) -> None:
    manifest = (Path(stage_folder(world.done, "pack").url) / "manifest.json").read_text()
    assert str(world.llava.parent) not in manifest
    assert str(world.clip.parent) not in manifest


def states(config: Config) -> dict[str, str]:
    return {planned.stage: planned.state for planned in plan(config)}


def test_a_changed_prompt_redoes_captions_only(world: World, tmp_path: Path) -> None:
    assert set(states(world.config(world.done)).values()) == {"cached"}
    changed = world.config(world.done, prompts={"dense": "Describe this image."})
    again = dict.fromkeys(("caption", "layout", "pack"), "to run")
    assert states(changed) == dict.fromkeys(("source", "fetch", "score", "select"), "cached") | again
    before = {path.name for path in world.done.iterdir() if path.is_dir()}
    output = Path(shutil.copytree(world.done, tmp_path / "out"))
    run(world.config(output, prompts={"dense": "Describe this image."}), engine="local")
    new = {path.name for path in output.iterdir() if path.is_dir()} - before
    assert sorted(name.split("-")[0] for name in new) == ["caption", "layout", "pack"]
    # What changes only speed, or only the report, changes nothing.
    assert set(states(world.config(world.done, token_limit=60, run={"batch": 2, "workers": 3})).values()) == {"cached"}


def test_a_changed_threshold_of_semantic_duplicates_scores_nothing_again(world: World, tmp_path: Path) -> None:
    given = world.config(tmp_path / "out")
    dedup = given.stages.select.dedup.model_copy(update={"semantic": 0.999999})
    select = given.stages.select.model_copy(update={"dedup": dedup, "where": "clip_similarity > -1"})
    stages = given.stages.model_copy(update={"select": select, "caption": None, "pack": PackSettings(resolution=64)})
    changed = given.model_copy(update={"stages": stages})
    shutil.copytree(world.done, tmp_path / "out")
    assert states(changed) == (
        dict.fromkeys(("source", "fetch", "score"), "cached") | dict.fromkeys(("select", "layout", "pack"), "to run")
    )
    run(changed, engine="local")
    manifest = read_manifest(stage_folder(tmp_path / "out", "select"))
    assert manifest is not None
    assert manifest.counts.kept + manifest.counts.rejected == ROWS * 9 // 10
    assert set(manifest.counts.reasons) <= {"semantic_duplicate"}


def test_a_run_that_lost_its_last_batches_ends_with_the_same_bytes(world: World, tmp_path: Path) -> None:
    output = Path(shutil.copytree(world.done, tmp_path / "out"))
    folder = stage_folder(output, "caption")
    manifest = read_manifest(folder)
    assert manifest is not None
    sizes = {fragment.name: fragment.counts.rows for fragment in manifest.fragments}
    end = next(name for name in sizes if name.endswith("-end.parquet"))
    other = next(name for name in sizes if name != end)
    for name in ("manifest.json", end, other):
        folder.delete(name)
    for path in [*output.glob("layout-*"), *output.glob("pack-*")]:
        shutil.rmtree(path)
    assert states(world.config(output))["caption"] == "partly done"
    run(world.config(output), engine="local")
    assert captions(output) == captions(world.done)
    assert corpus_bytes(output) == corpus_bytes(world.done)
    redone = read_manifest(folder)
    assert redone is not None
    fresh = sum(fragment.counts.rows for fragment in redone.fragments if fragment.name not in sizes)
    assert fresh == sizes[end] + sizes[other] <= 2 * BATCH


def test_ray_writes_the_same_captions(world: World, tmp_path: Path, ray_engine: Engine) -> None:
    skipped = shutil.ignore_patterns("caption-*", "layout-*", "pack-*")
    output = Path(shutil.copytree(world.done, tmp_path / "out", ignore=skipped))
    run(world.config(output), **on_ray(ray_engine, "caption"))
    assert captions(output) == captions(world.done)
    assert corpus_bytes(output) == corpus_bytes(world.done)


@pytest.mark.parametrize(
    ("caption", "path", "problem"),
    [
        ({"model": "/no/such/folder"}, "stages.caption.model", "no folder"),
        ({"tokenizer": "/no/such/folder"}, "stages.caption.tokenizer", "no folder"),
        ({"prompts": {"dense": "Say {what}"}}, "stages.caption.prompts.dense", "the only placeholder"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    world: World, tmp_path: Path, caption: dict[str, Any], path: str, problem: str
) -> None:
    for start in (plan, lambda config: run(config, engine="local")):
        with pytest.raises(ConfigError, match=problem) as caught:
            start(world.config(tmp_path, **caption))
        assert caught.value.path == path
    assert not list(tmp_path.iterdir())


def test_columns_of_the_list_that_captions_would_replace_are_refused(world: World, tmp_path: Path) -> None:
    given = world.config(tmp_path)
    columns = given.sources[0].columns.model_copy(update={"keep": ("caption_short",)})
    clashing = given.model_copy(update={"source": given.sources[0].model_copy(update={"columns": columns})})
    with pytest.raises(ConfigError, match="rows have columns caption_short already"):
        plan(clashing)
