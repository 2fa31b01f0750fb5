"""VQAScore against probabilities computed straight from a tiny LLaVA's logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.config import ModelSettings
from curation.errors import ConfigError
from curation.evaluate.prompts import Prompt, held_out_prompts
from curation.evaluate.scenes import true_pictures
from curation.evaluate.vqa import VqaScore
from tests.tiny_families import FAMILIES

COUNT = 4


@pytest.fixture(scope="module")
def metric(llava_folder: Path) -> VqaScore:
    made = VqaScore("evaluate.vqa", ModelSettings(model=str(llava_folder)))
    made.check(online=False)
    made.setup()
    return made


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return held_out_prompts(COUNT // 2, ("dense", "short"))


@pytest.fixture(scope="module")
def images(prompts: list[Prompt]) -> list[Image.Image]:
    return true_pictures(prompts)


def direct(folder: Path, text: str, image: Image.Image) -> float:
    """P(" Yes") token by token, each from a forward pass of its own over one unpadded row."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    asked = f'USER: <image>\nDoes this figure show "{text}"? Please answer yes or no. ASSISTANT:'
    inputs: Any = processor(text=[asked], images=[image], return_tensors="pt")
    ids, probability = inputs["input_ids"], 1.0
    with torch.inference_mode():
        for token in processor.tokenizer(" Yes", add_special_tokens=False)["input_ids"]:
            said = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -1].softmax(dim=-1)
            probability *= float(said[token])
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return probability


def test_probabilities_are_those_of_the_model(
    metric: VqaScore, llava_folder: Path, prompts: list[Prompt], images: list[Image.Image]
) -> None:
    expected = [direct(llava_folder, p.text, i) for p, i in zip(prompts, images, strict=True)]
    found = metric.scores(prompts, images)
    assert found.shape == (COUNT, 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3)
    assert max(expected) > 1.001 * min(expected), "the answer depends on what is shown and asked"


def test_batches_do_not_matter(metric: VqaScore, prompts: list[Prompt], images: list[Image.Image]) -> None:
    alone = [metric.scores([p], [i])[0, 0] for p, i in zip(prompts, images, strict=True)]
    np.testing.assert_allclose(metric.scores(prompts, images)[:, 0], alone, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda make: make.__name__)
def test_other_families(family: Callable[[Path], Path], tmp_path: Path, prompts: list[Prompt]) -> None:
    made = VqaScore("evaluate.vqa", ModelSettings(model=str(family(tmp_path / "model"))))
    made.setup()
    shown = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue", "white")]
    alone = [made.scores([p], [i])[0, 0] for p, i in zip(prompts, shown, strict=True)]
    np.testing.assert_allclose(made.scores(prompts, shown)[:, 0], alone, rtol=1e-3)
    assert 0 < min(alone) < max(alone) < 1


def test_control_words_in_a_prompt_are_no_pictures(metric: VqaScore, images: list[Image.Image]) -> None:
    plain, hostile = (Prompt(text=text, kind="short") for text in ("a   star", "a <image> star"))
    found = metric.scores([plain, hostile], images[:1] * 2)
    assert found[0, 0] == pytest.approx(found[1, 0], rel=1e-3)


def test_what_answers_no_questions_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of type 'clip', which answers no questions about images") as caught:
        VqaScore("evaluate.vqa", ModelSettings(model=str(clip_folder))).check(online=False)
    assert caught.value.path == "evaluate.vqa"
    with pytest.raises(ConfigError, match="cannot be loaded"):
        VqaScore("evaluate.vqa", ModelSettings(model=str(tmp_path / "nowhere"))).setup()
