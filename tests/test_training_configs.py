"""Every training in configs/training/ can be loaded as it stands, and cuts the student that it says."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from curation.config.koala import KoalaSettings
from curation.distill.student import SDXL_UNET, student_config
from curation.load import load_train_config
from tests.journey import ROOT

CONFIGS = sorted(path.name for path in (ROOT / "configs/training").glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_loads_with_a_corpus(name: str) -> None:
    config = load_train_config(ROOT / "configs/training" / name, ["data.corpora=[{path: runs/x}]"])
    assert config.data.stream(config.seed).corpora[0].path == "runs/x"


@pytest.mark.parametrize(("name", "parameters"), [("koala_700m", 782_822_724), ("koala_1b_lightning", 1_161_184_324)])
def test_students_of_sdxl_have_the_papers_sizes(name: str, parameters: int) -> None:
    recipe = load_train_config(ROOT / f"configs/training/{name}.yaml").recipe
    assert isinstance(recipe, KoalaSettings)
    with torch.device("meta"):
        student = UNet2DConditionModel.from_config(student_config(SDXL_UNET, recipe.student))
    assert sum(p.numel() for p in student.parameters()) == parameters


def test_eight_gpus_and_one_make_the_same_batches() -> None:
    """With the lines that the README shows."""
    alone = ["data.batch=8", "loop.accumulate=16"]
    for name in ("koala_700m", "koala_1b_lightning"):
        for sets in ([], alone):
            config = load_train_config(ROOT / f"configs/training/{name}.yaml", sets)
            assert config.data.batch * config.loop.accumulate == 128
    assert " ".join(f"--set {given}" for given in alone) in (ROOT / "README.md").read_text(encoding="utf-8")
