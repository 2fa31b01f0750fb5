"""The trained models that come with the repository: their cards say what was measured, and they still do it.

A few pictures each, far from what the cards measured; what they must reach here is what chance hardly would.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from curation.config import ModelSettings
from curation.scenes.beauty import beauty
from curation.scenes.describe import dense
from curation.scenes.trained import MODELS
from curation.scenes.zoo.aesthetic import FILE, spearman
from curation.scenes.zoo.captioner_judged import F1, evaluate
from curation.scenes.zoo.cards import EVALUATION, card
from curation.scenes.zoo.classifiers import LABELS, RIGHT
from curation.scenes.zoo.classifiers import evaluate as classify
from curation.scenes.zoo.clip import found
from curation.scenes.zoo.shots import shot
from curation.scenes.zoo.teacher import read_from
from curation.score.aesthetic import load_head
from curation.score.clip import Clip

MADE = sorted(path.parent for path in MODELS.rglob(EVALUATION))
MOST_BYTES = 40_000_000


def test_there_are_some_and_they_are_small() -> None:
    assert {"clip", "aesthetic", "safety", "watermark", "captioner", "teacher", "wuerstchen"} <= {
        folder.name for folder in MADE
    }
    assert sum(file.stat().st_size for file in MODELS.rglob("*.safetensors")) <= MOST_BYTES


@pytest.mark.parametrize("folder", MADE, ids=lambda folder: str(folder.relative_to(MODELS)))
def test_the_card_says_what_was_measured(folder: Path) -> None:
    facts = json.loads((folder / EVALUATION).read_text())
    assert (folder / "README.md").read_text() == card(facts)
    assert facts["seconds"] > 0
    assert list(folder.rglob("*.safetensors"))


@pytest.fixture(scope="module")
def clip() -> Clip:
    clip = Clip("stages.score.clip", ModelSettings(model=str(MODELS / "clip")))
    clip.setup()
    return clip


def test_clip_finds_the_caption_and_its_head_the_beauty(clip: Clip) -> None:
    shots = [shot(("quick", i), held_out=True) for i in range(48)]
    pictures = clip.embed_images([s.decoded(clip.side) for s in shots])
    texts = clip.embed_texts([dense(s.scene, s.seed) for s in shots])
    assert found(pictures, texts) > 0.85
    weight, bias = load_head(str(MODELS / "aesthetic" / FILE))
    scores = pictures.astype(np.float64) @ weight + bias
    assert spearman(scores, np.array([beauty(s.scene, s.effect) for s in shots])) > 0.6


@pytest.mark.parametrize("task", LABELS)
def test_classifiers_tell_what_they_look_for(task: str) -> None:
    right = classify(task, MODELS / task, 30)[RIGHT]
    assert isinstance(right, float)
    assert right > 0.85


def test_the_teacher_paints_what_it_is_told() -> None:
    made = StableDiffusionXLPipeline.from_pretrained(MODELS / "teacher", dtype=torch.float32, add_watermarker=False)
    rates = read_from(made, 16, "dense")
    assert min(rates[what] for what in ("background", "pattern", "position", "colour", "size", "shape")) > 0.9
    assert rates["texture"] > 0.4  # one of three


def test_the_captioner_says_what_is_shown() -> None:
    found = evaluate(MODELS / "captioner", 8)
    assert float(found[F1]) > 0.85  # type: ignore[arg-type]
