"""The stage in a whole run, with both engines, and what a user is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.config import Config
from curation.encode.cache import cached_of
from curation.errors import ConfigError
from curation.fsck import fsck
from curation.report.collect import collect
from curation.storage import Folder
from curation.stream.corpus import open_corpus
from curation.wuerstchen.compressor import SemanticCompressor
from pipelines.curate import plan, run
from pipelines.engines import Engine
from tests.journey import config
from tests.on_ray import on_ray
from tests.small_origin import small_origin

ROWS = 20
"""Every tenth is missing."""


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("origin") / "list.parquet"
    with small_origin(ROWS, path):
        yield path


def settings(listed: Path, output: Path, model: Path | None, **encode: Any) -> Config:
    return config(
        listed,
        output,
        fetch={"min_side": 64},
        select={"dedup": {"exact": "none"}},
        pack={"resolution": 64, "shard_samples": 8},
        encode={"model": model and str(model), "run": {"workers": 1, "batch": 4}, **encode},
    )


@pytest.fixture(scope="module")
def local(listed: Path, sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a local run."""
    output = tmp_path_factory.mktemp("local")
    run(settings(listed, output, sdxl_folder), engine="local")
    return output


def bytes_of(output: Path) -> dict[str, bytes]:
    (folder,) = output.glob("encode-*")
    return {
        p.name: p.read_bytes()
        for p in (*folder.glob("shards/*"), folder / "index.parquet", folder / "empty.safetensors")
    }


def test_a_run_leaves_a_corpus_and_a_report(local: Path, listed: Path, sdxl_folder: Path) -> None:
    result = run(settings(listed, local, sdxl_folder), engine="local")  # nothing is left to do
    assert Path(result.corpus).name.startswith("encode-")
    assert result.manifest.counts.kept == ROWS * 9 // 10
    assert cached_of(open_corpus(result.corpus)) is not None
    assert fsck(Folder(local), deep=True) == []
    (planned,) = [p for p in plan(settings(listed, local, sdxl_folder)) if p.stage == "encode"]
    assert planned.state == "cached"
    facts = collect(Folder(local)).encoding
    assert facts is not None
    assert facts.samples == ROWS * 9 // 10
    sums = result.manifest.counts.sums
    assert facts.tensor_bytes == sums["encoded_length"] > facts.samples * 2 * (4 * 16 * 16 + 77 * 24)
    assert facts.told == "latents, captions (primary)"
    assert "Latents and embeddings" in Path(result.report).read_text()


def test_semantic_latents_alone(listed: Path, tmp_path: Path) -> None:
    compressor = SemanticCompressor(channels=6, widths=(8, 16), strides=(4, 2))
    compressor.save_pretrained(tmp_path / "compressor")
    output = tmp_path / "output"
    given = settings(listed, output, None, semantic=str(tmp_path / "compressor"))
    result = run(given, engine="local")
    assert result.manifest.counts.kept == ROWS * 9 // 10
    found = cached_of(open_corpus(result.corpus))
    assert found is not None
    assert found.semantic is not None
    assert (found.semantic.channels, found.channels, found.texts) == (6, None, None)
    facts = collect(Folder(output)).encoding
    assert facts is not None
    assert facts.told == "semantic latents"
    assert facts.models == [("compressor", str(tmp_path / "compressor"))]
    assert "<td>compressor <code>" in Path(result.report).read_text()
    assert str(tmp_path) not in Path(result.corpus, "manifest.json").read_text()
    assert fsck(Folder(output), deep=True) == []


def test_other_settings_of_encode_touch_nothing_before_it(local: Path, listed: Path, sdxl_folder: Path) -> None:
    states = {p.stage: p.state for p in plan(settings(listed, local, sdxl_folder, dtype="bf16"))}
    assert states.pop("encode") == "to run"
    assert set(states.values()) == {"cached"}


def test_both_engines_leave_the_same_bytes(
    local: Path, listed: Path, sdxl_folder: Path, tmp_path: Path, ray_engine: Engine
) -> None:
    given = settings(listed, tmp_path, sdxl_folder, run={"workers": 2, "batch": 4})
    run(given, **on_ray(ray_engine, "encode"))
    assert bytes_of(tmp_path) == bytes_of(local)


def test_captions_that_no_stage_writes_are_refused(local: Path, listed: Path, sdxl_folder: Path) -> None:
    with pytest.raises(ConfigError, match="'dense'") as caught:
        plan(settings(listed, local, sdxl_folder, texts=["dense"]))
    assert caught.value.path == "stages.encode.texts"


def test_a_model_that_is_not_there_is_refused_before_any_work(listed: Path, sdxl_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(settings(listed, tmp_path, tmp_path / "nothing"))
    assert caught.value.path == "stages.encode.model"
    assert "no folder" in caught.value.problem


@pytest.mark.parametrize(
    ("encode", "path"),
    [
        ({"texts": ["empty"]}, "stages.encode.texts"),
        ({"texts": [], "latents": False, "images": True}, "stages.encode"),
        ({"latents": False}, "stages.encode"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    listed: Path, sdxl_folder: Path, tmp_path: Path, encode: dict[str, Any], path: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(listed, tmp_path, sdxl_folder, **encode)
    assert caught.value.path == path
