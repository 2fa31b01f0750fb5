"""Students: the published sizes to the last parameter, and weights that name where they come from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from curation.config.koala import StudentSettings
from curation.distill.inherit import inherit, inherit_map, kept_layers
from curation.distill.student import KOALA_1B, KOALA_700M, SDXL_UNET, student_config
from curation.errors import ConfigError

SMALL = SDXL_UNET | {
    "addition_time_embed_dim": 8,
    "attention_head_dim": [1, 2, 2],
    "block_out_channels": [8, 16, 16],
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "projection_class_embeddings_input_dim": 60,
    "sample_size": 8,
    "transformer_layers_per_block": [1, 2, 4],
}


def on_meta(config: dict[str, Any]) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


@pytest.mark.parametrize(
    ("settings", "parameters"), [(None, 2_567_463_684), (KOALA_1B, 1_161_184_324), (KOALA_700M, 782_822_724)]
)
def test_published_sizes(settings: StudentSettings | None, parameters: int) -> None:
    unet = on_meta(student_config(SDXL_UNET, settings) if settings else SDXL_UNET)
    assert sum(p.numel() for p in unet.parameters()) == parameters


@pytest.mark.parametrize("settings", [KOALA_1B, KOALA_700M])
def test_every_tensor_of_the_published_students_names_its_teacher_tensor(settings: StudentSettings) -> None:
    teacher, student = on_meta(SDXL_UNET).state_dict(), on_meta(student_config(SDXL_UNET, settings)).state_dict()
    found = inherit_map(student, teacher)
    assert set(found.sources) == set(student)
    assert len(set(found.sources.values())) == len(student), "no teacher tensor is taken twice"
    assert len(found.unused) == len(teacher) - len(student)
    assert found.sources["up_blocks.0.resnets.1.conv1.weight"] == "up_blocks.0.resnets.2.conv1.weight"
    assert found.sources["up_blocks.1.attentions.1.proj_in.weight"] == "up_blocks.1.attentions.2.proj_in.weight"
    assert any(name.startswith("down_blocks.2.attentions.1.") for name in found.unused)
    assert ("mid_block.resnets.0.conv1.weight" in found.unused) == (not settings.mid_block)


def test_the_weights_are_the_teachers() -> None:
    torch.manual_seed(0)
    teacher = UNet2DConditionModel.from_config(SMALL)
    student = UNet2DConditionModel.from_config(student_config(SMALL, StudentSettings(transformer_layers=(1, 1, 2))))
    found = inherit(student, teacher, "top")
    theirs = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        assert tensor.equal(theirs[found.sources[name]]), name
    deep = "down_blocks.2.attentions.0.transformer_blocks"
    assert found.sources[f"{deep}.0.norm1.weight"] == f"{deep}.2.norm1.weight"
    assert found.sources["mid_block.attentions.0.transformer_blocks.1.norm1.weight"].endswith("blocks.3.norm1.weight")


def test_a_teacher_that_was_cut_unevenly_is_refused() -> None:
    """SSD-1B and Vega have depths a layer."""
    nested = SDXL_UNET | {"transformer_layers_per_block": [[0], [2, 2], [4, 4]]}
    with pytest.raises(ConfigError, match=r"recipe\.teacher: has transformer_layers_per_block \[\[0\], \[2, 2\], "):
        student_config(nested, StudentSettings())


def test_which_layers_are_kept() -> None:
    assert kept_layers(5, 10, "bottom") == [0, 1, 2, 3, 4]
    assert kept_layers(5, 10, "top") == [5, 6, 7, 8, 9]
    assert kept_layers(5, 10, "interleaved") == [0, 2, 4, 7, 9]
    assert kept_layers(1, 4, "interleaved") == [0]


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (StudentSettings(layers_per_block=3), "recipe.student.layers_per_block"),
        (StudentSettings(transformer_layers=(1, 2)), "recipe.student.transformer_layers"),
        (StudentSettings(transformer_layers=(1, 2, 11)), "recipe.student.transformer_layers"),
    ],
)
def test_a_student_larger_than_its_teacher_is_refused(settings: StudentSettings, path: str) -> None:
    with pytest.raises(ConfigError) as error:
        student_config(SDXL_UNET, settings)
    assert error.value.path == path


def test_another_teacher_is_refused_with_the_tensor_that_does_not_fit() -> None:
    student = on_meta(student_config(SDXL_UNET, KOALA_700M)).state_dict()
    with pytest.raises(ConfigError, match=r"conv_in\.weight has shape \[8, 4, 3, 3\]"):
        inherit_map(student, on_meta(SMALL).state_dict())
