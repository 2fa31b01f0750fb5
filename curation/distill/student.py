"""The shape of a student: the teacher's U-Net with fewer layers, as a stock `UNet2DConditionModel`.

KOALA (Lee et al. 2024, arXiv 2312.04005, §3.1 and Table 2) takes one layer a block, cuts the depth of the transformers
on the lower levels, and in its smaller form leaves out the middle block. `inherit.py` fills a student with weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.config.koala import StudentSettings
from curation.errors import ConfigError

KOALA_1B = StudentSettings(transformer_layers=(1, 2, 6))
"""1,161,184,324 parameters from SDXL's 2,567,463,684."""
KOALA_700M = StudentSettings(transformer_layers=(1, 2, 5), mid_block=False)
"""782,822,724 parameters."""

SDXL_UNET: dict[str, Any] = {
    "act_fn": "silu",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
"""The U-Net of `stabilityai/stable-diffusion-xl-base-1.0`, without settings that are diffusers' defaults."""


def student_config(teacher: Mapping[str, Any], settings: StudentSettings) -> dict[str, Any]:
    """The student's `UNet2DConditionModel` config. Raises ConfigError where it is no smaller version of the teacher.

    `teacher` is the config of the teacher's U-Net (`unet.config`, or `SDXL_UNET`).
    """
    levels = len(teacher["block_out_channels"])
    depths = _per_level("transformer_layers_per_block", teacher.get("transformer_layers_per_block", 1), levels)
    layers = teacher.get("layers_per_block", 2)
    if not isinstance(layers, int):
        raise ConfigError("recipe.teacher", f"has {layers} layers a block; only one number for all is understood")
    if (mine := settings.layers_per_block) > layers:
        raise ConfigError("recipe.student.layers_per_block", f"{mine} is over the teacher's {layers}")
    wanted = list(settings.transformer_layers or depths)
    if len(wanted) != levels:
        raise ConfigError("recipe.student.transformer_layers", f"names {len(wanted)} levels; the teacher has {levels}")
    if any(mine < 1 or mine > theirs for mine, theirs in zip(wanted, depths, strict=True)):
        raise ConfigError("recipe.student.transformer_layers", f"{wanted} must be from 1 to the teacher's {depths}")
    config = {name: value for name, value in teacher.items() if not name.startswith("_")}
    if settings.widths is not None:
        config |= _widths(teacher, settings.widths)
    config |= {"layers_per_block": settings.layers_per_block, "transformer_layers_per_block": wanted}
    if not settings.mid_block:
        config["mid_block_type"] = None
    return config


def _widths(teacher: Mapping[str, Any], widths: Sequence[int]) -> dict[str, Any]:
    """Of levels, with heads as wide as the teacher's. Raises ConfigError."""
    setting, theirs = "recipe.student.widths", list(teacher["block_out_channels"])
    if len(widths) != len(theirs):
        raise ConfigError(setting, f"names {len(widths)} levels; the teacher has {len(theirs)}")
    heads = _per_level("attention_head_dim", teacher.get("attention_head_dim", 8), len(theirs))  # it is their number
    found = []
    for mine, level, count in zip(widths, theirs, heads, strict=True):
        head, groups = level // count, teacher.get("norm_num_groups", 32)
        if mine % head or mine % groups:
            raise ConfigError(setting, f"{mine} is no multiple of a head's {head} channels and of {groups} groups")
        found.append(mine // head)
    return {"block_out_channels": list(widths), "attention_head_dim": found}


def _per_level(name: str, value: Any, levels: int) -> list[int]:
    """A number a level. Raises ConfigError for the nested ones of a U-Net that was cut already, like SSD-1B's."""
    found = [value] * levels if isinstance(value, int) else list(value)
    if not all(isinstance(number, int) for number in found):
        raise ConfigError("recipe.teacher", f"has {name} {found}; only one number a level is understood")
    return found
