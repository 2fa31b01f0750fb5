"""Metrics over CLIP against what `transformers` computes with the same tiny model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.config import ModelSettings
from curation.errors import ConfigError
from curation.evaluate.clip_score import ClipScore, clip_score
from curation.evaluate.cmmd import Cmmd
from curation.evaluate.embed import ClipEmbedder, embed_all
from curation.evaluate.evaluate import evaluate
from curation.evaluate.preference import HpsV2, PickScore, PreferenceClip
from curation.evaluate.prompts import Prompt, held_out_prompts
from curation.evaluate.scenes import true_pictures
from curation.score.clip import Clip

COUNT = 6


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return held_out_prompts(COUNT, ("dense",))


@pytest.fixture(scope="module")
def images(prompts: list[Prompt]) -> list[Image.Image]:
    return true_pictures(prompts)


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    made = Clip("evaluate.clip", ModelSettings(model=str(clip_folder)))
    made.setup()
    return made


@pytest.fixture(scope="module")
def direct(clip_folder: Path, prompts: list[Prompt], images: list[Image.Image]) -> np.ndarray:
    """Logits of each picture for its own prompt, and image embeddings beside them: [N, 1 + D]."""
    import torch
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    texts = [prompt.text for prompt in prompts]
    with torch.inference_mode():
        output = model(**processor(text=texts, images=images, return_tensors="pt", padding=True))
    return np.hstack([output.logits_per_image.diagonal()[:, None].numpy(), output.image_embeds.numpy()])


def test_clip_score_is_the_papers() -> None:
    assert clip_score(np.array([-0.5, 0.0, 0.3, 1.0])).tolist() == pytest.approx([0, 0, 0.75, 2.5])


def test_scores_are_those_of_transformers(
    clip: Clip, direct: np.ndarray, prompts: list[Prompt], images: list[Image.Image]
) -> None:
    embed = ClipEmbedder(clip)
    logits, scale = direct[:, 0], embed.logit_scale
    assert scale == pytest.approx(1 / 0.07, rel=1e-4), "what a fresh CLIP begins with"
    assert np.ptp(logits) > 0.5
    assert PickScore(embed).scores(prompts, images)[:, 0] == pytest.approx(logits, abs=1e-4)
    assert HpsV2(embed).scores(prompts, images)[:, 0] == pytest.approx(100 * logits / scale, abs=1e-3)
    expected = 2.5 * np.maximum(logits / scale, 0)
    assert ClipScore(embed).scores(prompts, images)[:, 0] == pytest.approx(expected, abs=1e-5)


def test_embeddings_are_made_once_a_batch(clip: Clip, direct: np.ndarray, images: list[Image.Image]) -> None:
    embed = ClipEmbedder(clip)
    first = embed(images)
    assert embed(images) is first
    np.testing.assert_allclose(first, direct[:, 1:], atol=2e-6)
    np.testing.assert_allclose(embed(images[:2]), first[:2], atol=2e-6)
    np.testing.assert_allclose(embed_all(embed, iter(images), batch=4), first, atol=2e-6)


def test_a_whole_evaluation(clip: Clip, prompts: list[Prompt], images: list[Image.Image]) -> None:
    embed = ClipEmbedder(clip)
    painted = dict(zip((prompt.text for prompt in prompts), images, strict=True))
    metrics = [ClipScore(embed), PickScore(embed), Cmmd(embed, embed_all(embed, images))]
    found = evaluate(lambda texts, seeds: [painted[text] for text in texts], prompts, metrics, batch=4)
    assert found.sets["cmmd"]["dense"] == pytest.approx(0, abs=1e-4)
    cosines = found.scores["pick_score"] / embed.logit_scale
    assert found.scores["clip_score"] == pytest.approx(clip_score(cosines), abs=1e-5)


def test_a_processor_from_elsewhere(
    clip_folder: Path, clip: Clip, tmp_path: Path, prompts: list[Prompt], images: list[Image.Image]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(clip_folder / name, bare / name)
    alone = PreferenceClip("evaluate.pick_score", ModelSettings(model=str(bare)))
    with pytest.raises(ConfigError) as caught:
        alone.check(online=False)
    assert caught.value.path == "evaluate.pick_score"
    helped = PreferenceClip(
        "evaluate.pick_score", ModelSettings(model=str(bare)), ModelSettings(model=str(clip_folder))
    )
    helped.check(online=False)
    helped.setup()
    expected = PickScore(ClipEmbedder(clip)).scores(prompts, images)
    np.testing.assert_allclose(PickScore(ClipEmbedder(helped)).scores(prompts, images), expected, atol=1e-4)
    lost = PreferenceClip(
        "evaluate.pick_score", ModelSettings(model=str(bare)), ModelSettings(model=str(tmp_path / "nowhere"))
    )
    with pytest.raises(ConfigError) as caught:
        lost.check(online=False)
    assert caught.value.path == "evaluate.pick_score.processor"
