"""An ablation between two families of models, at equal FLOPs: a prior in a compact latent, and latent diffusion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.config.ablate import AblateConfig
from curation.errors import ConfigError
from curation.load import make
from pipelines.ablate import ablate
from pipelines.ablate_plan import plan_ablation
from tests.ablate.whole import whole
from tests.small_origin import small_origin
from tests.tiny_wuerstchen import tiny_stage_c


def settings(listed: Path, sdxl: Path, parts: dict[str, str], output: Path) -> dict[str, Any]:
    given = whole(listed, sdxl, output)
    given["base"]["stages"]["encode"] = {"model": str(sdxl), "semantic": parts["compressor"], "texts": []}
    given["train"]["recipe"]["losses"] = {"output": 0, "features": 0}
    given["train"]["recipe"]["student"]["inherit"] = False
    given["arms"] = {"latent-diffusion": {}, "compact": {"train.recipe": tiny_stage_c(parts)}}
    given["fairness"] = "equal_flops"
    given["verdict"]["claims"] = [{"better": "compact", "worse": "latent-diffusion"}]
    return given


def test_two_families_are_compared_at_equal_flops(
    sdxl_folder: Path, wuerstchen_parts: dict[str, str], tmp_path: Path
) -> None:
    listed = tmp_path / "list.parquet"
    with small_origin(24, listed) as asked:
        given = settings(listed, sdxl_folder, wuerstchen_parts, tmp_path / "out")
        config = make(given, model=AblateConfig)
        assert [training.steps for training in plan_ablation(config).trainings] == [None, None]
        found = ablate(config, engine="local")
    assert len(asked) == len(set(asked))
    arms = {arm["name"]: arm for arm in found.facts["arms"]}
    steps = {name: arm["steps"] for name, arm in arms.items()}
    spent = {name: arm["flops"] for name, arm in arms.items()}
    assert min(steps.values()) < max(steps.values()) == 4
    a_step = {name: spent[name] / steps[name] for name in arms}
    assert abs(spent["compact"] - spent["latent-diffusion"]) <= max(a_step.values()) / 2
    assert arms["compact"]["caption_tokens"] > 0
    assert list(found.facts["references"])[:2] == ["teacher", "true pictures"]  # the teacher that Stage C has not
    folders = {name: Path(arm["students"][0]["folder"]) / "model" for name, arm in arms.items()}
    assert (folders["compact"] / "wuerstchen.json").exists()
    assert (folders["latent-diffusion"] / "model_index.json").exists()
    read = json.loads((folders["compact"].parent / "run.json").read_text())["read"]
    assert read.keys() >= {"compressor", "text", "recipe.decode.vqgan", "recipe.decode.decoder"}


def test_what_does_not_paint_is_refused(sdxl_folder: Path, wuerstchen_parts: dict[str, str], tmp_path: Path) -> None:
    given = settings(tmp_path / "none.parquet", sdxl_folder, wuerstchen_parts, tmp_path / "out")
    stage_b = {
        "kind": "wuerstchen_b",
        "compressor": wuerstchen_parts["compressor"],
        "vqgan": wuerstchen_parts["vqgan"],
        "decoder": {"levels": [{"width": 16, "blocks": 1}], "conditioning": 16, "patch": 1},
    }
    given["arms"] = {"a": {"train.recipe": stage_b}, "b": {"train.recipe": stage_b}}
    given["verdict"]["claims"] = []
    with pytest.raises(ConfigError, match=r"train\.recipe\.kind.*Stage B alone"):
        ablate(make(given, model=AblateConfig), engine="local")
