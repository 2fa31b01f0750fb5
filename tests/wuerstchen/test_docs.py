"""The trainings in configs/ are of the published models, and what docs/wuerstchen.md shows fits them."""

from __future__ import annotations

import re

import yaml

from curation.config import EncodeSettings
from curation.config.wuerstchen import StageBSettings, StageCSettings
from curation.encode.cache import CacheFacts, SemanticFacts, check_signatures
from curation.encode.signatures import SEMANTIC, compressor_signature, text_signatures
from curation.load import load_train_config
from tests.journey import ROOT


def test_the_configs_are_of_the_published_models() -> None:
    c, b = (load_train_config(ROOT / f"configs/training/wuerstchen_{stage}.yaml") for stage in "cb")
    stage_c, stage_b = c.recipe, b.recipe
    assert isinstance(stage_c, StageCSettings)
    assert isinstance(stage_b, StageBSettings)
    assert (stage_c.prior.width, stage_c.prior.depth, stage_c.prior.heads) == (1536, 32, 24)
    assert [level.width for level in stage_b.decoder.levels] == [320, 640, 1280, 1280]
    assert (stage_c.sampling.prior_points, stage_c.sampling.prior_guidance) == (30, 4)
    assert stage_c.caption_dropout == stage_b.caption_dropout == stage_b.semantic_dropout == 0.05
    assert (c.data.batch, b.data.batch) == (1280, 384)
    assert c.ema is not None
    assert (c.ema.decay, c.ema.every) == (0.9, 100)


def test_the_stage_that_is_shown_stores_what_stage_c_reads() -> None:
    text = (ROOT / "docs" / "wuerstchen.md").read_text(encoding="utf-8")
    block, _ = re.findall(r"```yaml\n(.*?)```", text, re.S)
    encode = EncodeSettings.model_validate(yaml.safe_load(block)["stages"]["encode"])
    recipe = load_train_config(ROOT / "configs/training/wuerstchen_c.yaml").recipe
    assert isinstance(recipe, StageCSettings)
    assert encode.semantic is not None
    assert encode.semantic.model_copy(update={"scale": 42, "shift": 1}) == recipe.compressor
    assert encode.text == recipe.text
    assert (encode.latents, encode.texts) == (False, ("primary",))


def test_what_is_shown_for_both_stages_fits_both() -> None:
    text = (ROOT / "docs" / "wuerstchen.md").read_text(encoding="utf-8")
    _, block = re.findall(r"```yaml\n(.*?)```", text, re.S)
    encode = EncodeSettings.model_validate(yaml.safe_load(block)["stages"]["encode"])
    assert encode.semantic is not None
    signatures = {SEMANTIC: compressor_signature("stages.encode.semantic", encode.semantic)}
    facts = CacheFacts(
        signatures=signatures,
        dtype=encode.dtype,
        resolution=None,
        upscale=False,
        images=encode.images,
        channels=None,
        factor=0,
        semantic=SemanticFacts(16, 0.75, (2,) * 5),
        texts=None,
    )
    for stage in "cb":
        recipe = load_train_config(ROOT / f"configs/training/wuerstchen_{stage}.yaml").recipe
        assert isinstance(recipe, StageCSettings | StageBSettings)
        assert recipe.text is not None
        mine = {SEMANTIC: compressor_signature("recipe.compressor", recipe.compressor)}
        check_signatures(facts, mine | text_signatures("recipe.text", recipe.text), "recipe")
