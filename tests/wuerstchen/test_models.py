"""The published sizes to the last parameter, and first weights that say what they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curation.config.wuerstchen import DecoderSettings, PriorSettings
from curation.wuerstchen.compressor import SemanticCompressor
from curation.wuerstchen.models import (
    DECODER,
    PRIOR,
    VQGAN,
    PaellaVQModel,
    WuerstchenDiffNeXt,
    WuerstchenPrior,
    decoder_config,
    make_decoder,
    make_prior,
    prior_config,
)
from curation.wuerstchen.parts import parameters

PRIOR_SMALL = prior_config(PriorSettings(width=16, depth=4, heads=2), channels=4, text=8)


@pytest.mark.parametrize(
    ("cls", "config", "count"),
    [
        (PaellaVQModel, VQGAN, 18_406_894),
        (WuerstchenDiffNeXt, DECODER, 1_055_365_280),
        (WuerstchenPrior, PRIOR, 993_636_896),
    ],
)
def test_published_sizes(cls: Any, config: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        WuerstchenDiffNeXt, "_init_weights", lambda self, part: None
    )  # it takes 15 s, and counts nothing
    with torch.device("meta"):
        assert parameters(cls(**config)) == count


def test_default_settings_are_the_published_shapes() -> None:
    prior = prior_config(PriorSettings(), channels=16, text=1280)
    assert {name: prior[name] for name in PRIOR} == PRIOR
    assert decoder_config(DecoderSettings(), latents=4, semantic=16, text=1024) == DECODER


@pytest.mark.parametrize(("backbone", "count"), [("efficientnet_v2_s", 21_458_488), ("efficientnet_v2_l", 118_515_272)])
def test_the_efficientnets_have_torchvisions_sizes(backbone: str, count: int) -> None:
    with torch.device("meta"):
        trunk = SemanticCompressor(trunk=backbone).backbone
    assert parameters(trunk) == count - 1000 * (1280 + 1), "all but the classifier"
    names = {"0.0.weight", "1.0.block.0.0.weight", "2.0.block.1.1.running_var", "4.0.block.2.fc1.weight"}
    assert names | {f"{len(trunk) - 1}.1.bias", "4.0.block.3.0.weight"} <= trunk.state_dict().keys(), "and its names"


def test_a_fresh_prior_says_that_all_is_noise() -> None:
    torch.manual_seed(0)
    prior = make_prior(PRIOR_SMALL)
    noisy, text = torch.randn(2, 4, 3, 3), torch.randn(2, 5, 8)
    found = prior(noisy, torch.tensor([0.3, 1.0]), text)
    torch.testing.assert_close(found, noisy / (1 + 1e-5))
    with torch.no_grad():
        prior.out[1].bias.copy_(torch.tensor([2.0] * 4 + [3.0] * 4))  # a = 2, b = 3
        found = prior(noisy, torch.tensor([0.3, 1.0]), text)
    torch.testing.assert_close(found, (noisy - 2) / (2 + 1e-5))


def test_first_weights_are_the_authors() -> None:
    torch.manual_seed(0)
    prior = make_prior(PRIOR_SMALL)
    blocks = [block.channelwise[-1].weight for block in prior.blocks if hasattr(block, "channelwise")]
    limit = (6 / (16 + 64)) ** 0.5 / 4**0.5  # xavier's bound over the root of four blocks
    for weight in blocks:
        assert limit * 0.9 < weight.abs().max() <= limit
    assert all(block.mapper.weight.eq(0).all() for block in prior.blocks if hasattr(block, "mapper"))
    widths = ((64, 32), (1536, 1280))
    small, large = (make_prior(PRIOR_SMALL | {"depth": 1, "c": c, "c_cond": text}).cond_mapper for c, text in widths)
    assert large[0].weight.std().item() == pytest.approx(0.02, rel=0.01), "as published …"
    assert large[2].weight.std().item() == pytest.approx(0.02, rel=0.01)
    loud = [mapper(torch.randn(500, mapper[0].in_features)).std().item() for mapper in (small, large)]
    assert loud[0] == pytest.approx(loud[1], rel=0.15), "… and as loud in narrow ones"
    torch.manual_seed(0)
    again = make_prior(PRIOR_SMALL).state_dict()
    assert all(value.equal(again[name]) for name, value in prior.state_dict().items()), "nothing is left to chance"


def test_a_fresh_decoder_is_not_dead() -> None:
    """diffusers' own first weights are: its scaling down runs once for each submodule."""
    config = DECODER | {"c_hidden": [16, 16], "nhead": [-1, 2], "blocks": [1, 1], "c_cond": 8, "clip_embd": 8}
    config |= {"level_config": ["CT", "CTA"], "inject_effnet": [False, True]}

    def last(model: Any) -> float:
        block = next(m for m in model.modules() if type(m).__name__ == "ResBlockStageB")
        return float(block.channelwise[-1].weight.detach().abs().max())

    torch.manual_seed(0)
    assert last(WuerstchenDiffNeXt(**config)) < 1e-3 < 0.1 < last(make_decoder(config))
    found = make_decoder(config)(
        torch.ones(1, 4, 8, 8), torch.tensor([0.5]), torch.ones(1, 16, 2, 2), torch.ones(1, 3, 8)
    )
    torch.testing.assert_close(found, torch.full((1, 4, 8, 8), 2.0))  # a = 0, b = 1/2
