"""What docs/wuerstchen.md shows are settings that are taken."""

from __future__ import annotations

import re

import yaml

from curation.config.train import EmaSettings, LoopSettings, OptimizerSettings
from curation.config.wuerstchen import StageBSettings, StageCSettings
from tests.journey import ROOT


def test_the_configs_that_are_shown_are_the_published_models() -> None:
    text = (ROOT / "docs" / "wuerstchen.md").read_text(encoding="utf-8")
    c, b = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S))
    stage_c, stage_b = StageCSettings.model_validate(c["recipe"]), StageBSettings.model_validate(b["recipe"])
    assert (stage_c.prior.width, stage_c.prior.depth, stage_c.prior.heads) == (1536, 32, 24)
    assert [level.width for level in stage_b.decoder.levels] == [320, 640, 1280, 1280]
    assert (stage_c.sampling.prior_points, stage_c.sampling.prior_guidance) == (30, 4)
    assert stage_c.caption_dropout == stage_b.caption_dropout == stage_b.semantic_dropout == 0.05
    for config in (c, b):
        OptimizerSettings.model_validate(config["optimizer"])
        LoopSettings.model_validate(config["loop"])
    assert EmaSettings.model_validate(c["ema"]).every == 100
