"""A pipeline of SDXL's kind is loaded whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from curation.errors import ConfigError
from curation.sdxl import load_part, load_pipeline, load_vae


def copied(sdxl_folder: Path, part: str, to: Path) -> tuple[Path, Path, dict[str, Tensor]]:
    """A copy of the folder, its weights of `part` and where they lie."""
    folder = shutil.copytree(sdxl_folder, to)
    (file,) = (folder / part).glob("*.safetensors")
    return folder, file, load_file(file)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_weights_that_lack_a_tensor_are_refused(sdxl_folder: Path, tmp_path: Path, part: str) -> None:
    folder, file, weights = copied(sdxl_folder, part, tmp_path / "lacking")
    name = sorted(weights)[len(weights) // 2]
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError) as caught:
        load_pipeline("recipe.teacher.model", str(folder))
    assert caught.value.path == "recipe.teacher.model"
    assert f"({part}) lack" in caught.value.problem
    assert name.removeprefix("text_model.") in caught.value.problem


def test_parts_that_are_given_are_not_loaded(sdxl_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sdxl_folder, tmp_path / "texts")
    shutil.rmtree(folder / "unet")
    vae = load_vae("stages.encode.vae", str(shutil.move(folder / "vae", tmp_path / "vae")))
    pipeline = load_pipeline("stages.encode.model", str(folder), unet=None, vae=vae)
    assert pipeline.unet is None
    assert pipeline.vae is vae
    assert pipeline.text_encoder_2.dtype == torch.float32


def test_text_encoders_as_they_were_published(sdxl_folder: Path, tmp_path: Path) -> None:
    """Older files have longer names, and positions that are no weights."""
    folder, file, weights = copied(sdxl_folder, "text_encoder", tmp_path / "older")
    older = {"text_model." + name.removeprefix("text_model."): weight for name, weight in weights.items()}
    older["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(older, file, metadata={"format": "pt"})
    mine, theirs = (load_part("model", "text_encoder", str(at)).state_dict() for at in (folder, sdxl_folder))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
