"""Features of student and teacher come in pairs, whatever the student is wrapped in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from curation.config.koala import StudentSettings
from curation.distill.inherit import inherit, inherit_map
from curation.distill.losses import feature_loss
from curation.distill.student import KOALA_1B, KOALA_700M, SDXL_UNET, student_config
from curation.distill.taps import Taps, Where, pair_places
from curation.errors import ConfigError
from tests.distill.test_student import SMALL, on_meta

ALL: tuple[Where, ...] = ("self_attention", "cross_attention", "feed_forward", "residual", "last", "last_outer")


@pytest.mark.parametrize(("settings", "pairs"), [(KOALA_1B, 30), (KOALA_700M, 21)])
def test_the_papers_number_of_pairs(settings: StudentSettings, pairs: int) -> None:
    teacher, student = on_meta(SDXL_UNET), on_meta(student_config(SDXL_UNET, settings))
    inheritance = inherit_map(student.state_dict(), teacher.state_dict())
    assert len(pair_places(student, inheritance, ["self_attention"])) == pairs
    theirs = set(dict(teacher.named_modules()))
    for kind in ALL:
        assert set(pair_places(student, inheritance, [kind]).values()) <= theirs


def test_features_of_other_layers_than_those_inherited() -> None:
    student = on_meta(student_config(SDXL_UNET, KOALA_700M))
    top = inherit_map(student.state_dict(), on_meta(SDXL_UNET).state_dict(), "top")
    pairs = pair_places(student, top, ["self_attention"])
    deep = {int(theirs.split(".")[-2]) for theirs in pairs.values() if theirs.startswith("down_blocks.2")}
    assert deep == {5, 6, 7, 8, 9}  # of SDXL's ten
    assert pair_places(student, top, ["last_outer"]) == {"down_blocks.0": "down_blocks.0", "up_blocks.2": "up_blocks.2"}


SMALLEST = {
    **SMALL,
    "block_out_channels": SMALL["block_out_channels"][:2],
    "attention_head_dim": SMALL["attention_head_dim"][:2],
    "transformer_layers_per_block": (1, 1),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
"""Two levels, for what takes long to compile."""


Two = tuple[UNet2DConditionModel, UNet2DConditionModel, dict[str, str]]


def two(config: dict[str, Any] = SMALL, seed: int = 0) -> Two:
    """Student, teacher, and the pairs of all kinds."""
    torch.manual_seed(seed)
    teacher = UNet2DConditionModel.from_config(config).eval().requires_grad_(False)
    layers = (1, 1, 2)[: len(config["block_out_channels"])]
    student = UNet2DConditionModel.from_config(student_config(config, StudentSettings(transformer_layers=layers)))
    return student, teacher, pair_places(student, inherit(student, teacher), ALL)


def inputs() -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
    dice = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 8, 8, generator=dice)
    text = torch.randn(2, 5, 12, generator=dice)
    added = {"text_embeds": torch.randn(2, 12, generator=dice), "time_ids": torch.rand(2, 6, generator=dice)}
    return (latents, torch.tensor([10, 500]), text), {"added_cond_kwargs": added}


def loss_and_gradient(
    student: Any, whole: UNet2DConditionModel, teacher: Any, pairs: dict[str, str]
) -> tuple[float, Tensor]:
    mine, theirs = Taps(whole, {place: place for place in pairs}), Taps(teacher, pairs)
    args, options = inputs()
    with theirs.listening() as wanted, torch.no_grad():
        teacher(*args, **options)
    with mine.listening() as found:
        student(*args, **options)
    assert found.keys() == wanted.keys() == pairs.keys()
    loss = feature_loss(found, wanted).mean()
    loss.backward()
    return loss.item(), whole.conv_in.weight.grad.clone()


def test_features_of_a_pair_have_one_shape_and_pull_on_the_student() -> None:
    student, teacher, pairs = two()
    loss, gradient = loss_and_gradient(student, student, teacher, pairs)
    assert loss > 0
    assert gradient.abs().max() > 0


def test_gradient_checkpointing_changes_nothing() -> None:
    plain = loss_and_gradient(*(s := two())[:1], s[0], *s[1:])
    student, teacher, pairs = two()
    student.enable_gradient_checkpointing()
    student.train()
    checked = loss_and_gradient(student, student, teacher, pairs)
    assert checked[0] == pytest.approx(plain[0], rel=1e-6)
    assert torch.allclose(checked[1], plain[1], rtol=1e-4, atol=1e-7)


def test_a_wrapped_student_gives_the_same() -> None:
    class Wrapper(torch.nn.Module):
        """As DDP does: the model is an attribute, and names gain a prefix."""

        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any, **options: Any) -> Any:
            return self.module(*args, **options)

    plain = loss_and_gradient(*(s := two())[:1], s[0], *s[1:])
    student, teacher, pairs = two()
    wrapped = loss_and_gradient(Wrapper(student), student, teacher, pairs)
    assert wrapped[0] == plain[0]


def test_a_pair_whose_weights_are_equal_and_first_has_no_loss() -> None:
    student, teacher, pairs = two()
    first = {name: source for name, source in pairs.items() if name == "down_blocks.0.resnets.0"}
    loss, _ = loss_and_gradient(student, student, teacher, first)
    assert loss == pytest.approx(0, abs=1e-10)


def test_a_kind_that_the_student_has_not_is_refused() -> None:
    bare = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
        norm_num_groups=4,
        layers_per_block=1,
    )
    inheritance = inherit_map(bare.state_dict(), bare.state_dict())
    assert pair_places(bare, inheritance, ["residual"])
    with pytest.raises(ConfigError, match="the student has no self attention"):
        pair_places(bare, inheritance, ["self_attention"])


def test_a_compiled_student_gives_the_same() -> None:
    plain = loss_and_gradient(*(s := two(SMALLEST))[:1], s[0], *s[1:])
    student, teacher, pairs = two(SMALLEST)
    compiled = torch.compile(student, backend="eager")
    found = loss_and_gradient(compiled, student, teacher, pairs)
    assert found[0] == pytest.approx(plain[0], rel=1e-5)
    assert torch.allclose(found[1], plain[1], rtol=1e-3, atol=1e-6)
