"""Trains the world's captioner (LLaVA's architecture): pictures to `dense` descriptions, and shorter ones.

    python -m curation.scenes.zoo.captioner [--steps N] [--tower-steps N]

In two parts. The vision tower learns to see: each patch names what its cell holds (`grid.py`). Then projector and
language model learn to say it, with the tower as it is: the built-in prompts of `curation.caption.prompts`, answered
from the picture, and from the dense description for the prompts that shorten one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPVisionModel, LlavaForConditionalGeneration, LlavaProcessor

from curation.caption.prompts import DENSE, MEDIUM_FROM_IMAGE, MEDIUM_FROM_TEXT, SHORT_FROM_IMAGE, SHORT_FROM_TEXT
from curation.scenes.describe import medium, recited, short
from curation.scenes.dice import Dice
from curation.scenes.scene import Scene
from curation.scenes.zoo.ahead import Ahead
from curation.scenes.zoo.captioner_judged import F1, evaluate
from curation.scenes.zoo.captioner_parts import (
    PATCH,
    SIDE,
    WIDTH,
    asked,
    make_captioner,
    make_processor,
    make_tokenizer,
    make_tower,
)
from curation.scenes.zoo.cards import Made, write_card
from curation.scenes.zoo.crowd import crowd
from curation.scenes.zoo.grid import PatchHead, classes
from curation.scenes.zoo.pictures import as_input
from curation.scenes.zoo.shots import Shot, shot
from curation.scenes.zoo.training import Training, arguments, device, in_bf16
from curation.scenes.zoo.vision import whiten_clip

TOWER_STEPS = 3_200
LR = 1e-3
POOR = 0.1
"""Share of pictures that are shown at the sides of a thumbnail, for a captioner meets those as well."""
LESSONS = {"dense": 0.5, "medium": 0.1, "short": 0.1, "medium from text": 0.15, "short from text": 0.15}
"""Kinds of request, and their shares of the steps; all requests of a step are of one kind."""
ABOUT = f"""A `LlavaForConditionalGeneration` that describes pictures of the embedded world.

Asked with the built-in prompts of `curation/caption/prompts.py` (it knows no others) it writes `dense` descriptions,
from which `parse_dense` reads the scene, and medium and short ones, from the picture or from the dense description.
Pictures are squeezed to {SIDE} × {SIDE} pixels."""
UNHEARD = -100
"""Label of what the model need not say."""


@dataclass(frozen=True)
class Seen:
    """What a step of the tower learns from: uint8 [B, SIDE, SIDE, 3] and int64 [B, 9, 8]."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Told:
    """What a step of the language model learns from."""

    images: NDArray[np.uint8] | None
    """[B, SIDE, SIDE, 3]; None where the text alone is asked about."""
    lessons: list[tuple[str, str]]
    """Prompt and answer."""


def look(picture: Shot) -> NDArray[np.uint8]:
    """The picture as the tower gets it: sometimes from a thumbnail."""
    dice = Dice("captioner", picture.seed)
    return picture.look(SIDE, dice.whole(64, 160) if dice.chance(POOR) else None)


def make_seen(seed: int, size: int, step: int) -> Seen:
    """A step of the tower: a pure function."""
    shots = [shot(("seen", seed, step, i)) for i in range(size)]
    shots[::2] = [replace(s, scene=crowd(s.seed)) for s in shots[::2]]
    return Seen(np.stack([look(s) for s in shots]), np.stack([classes(s.scene) for s in shots]))


def make_told(seed: int, size: int, step: int) -> Told:
    """A step of the language model: a pure function."""
    kind = Dice("lesson", seed, step).weighted(LESSONS)
    shots = [shot(("told", seed, step, i)) for i in range(size)]
    images = None if kind.endswith("from text") else np.stack([look(s) for s in shots])
    return Told(images, [lesson(kind, s.scene) for s in shots])


def lesson(kind: str, scene: Scene) -> tuple[str, str]:
    """Prompt and right answer of a key of `LESSONS`."""
    if kind == "dense":
        return DENSE.text, recited(scene)
    if kind == "medium":
        return MEDIUM_FROM_IMAGE.text, medium(scene)
    if kind == "short":
        return SHORT_FROM_IMAGE.text, short(scene)
    if kind == "medium from text":
        return MEDIUM_FROM_TEXT.fill(caption=recited(scene)), medium(scene)
    return SHORT_FROM_TEXT.fill(caption=recited(scene)), short(scene)


class Tower(nn.Module):
    """The vision tower with the head that it learns by."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = make_tower(), PatchHead(WIDTH, SIDE // PATCH)

    def patches(self, images: NDArray[np.uint8]) -> Tensor:
        """What the language model will get: [B, (SIDE/PATCH)², WIDTH]."""
        seen: Tensor = self.tower(pixel_values=as_input(images).to(device())).last_hidden_state[:, 1:]
        return seen


def train_tower(steps: int, batch: int, seed: int, work: Path, processes: int) -> tuple[Tower, float]:
    """The trained tower, and the seconds it took."""
    torch.manual_seed(seed)
    parts = Tower()
    whiten_clip(parts.tower)
    parts.to(device())
    training = Training("captioner-tower", parts, work, steps=steps, lr=LR)
    held_out = [shot(i, held_out=True, effect="none") for i in range(128)]
    looks, wanted = np.stack([s.look(SIDE) for s in held_out]), np.stack([classes(s.scene) for s in held_out])

    def report(step: int) -> list[tuple[str, float]]:
        with torch.no_grad(), in_bf16():
            return list(parts.head.right(parts.patches(looks), torch.from_numpy(wanted).to(device())).items())

    with Ahead(partial(make_seen, seed, batch), processes) as batches:

        def loss(step: int) -> Tensor:
            given = batches(step)
            with in_bf16():
                return parts.head.loss(parts.patches(given.images), torch.from_numpy(given.classes).to(device()))

        training.run(loss, report)
    training.finish()
    return parts, training.seconds


def encoded(processor: LlavaProcessor, told: Told) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], padded on the right, and the labels of the answers alone."""
    tokenizer = processor.tokenizer
    ids, labels = [], []
    for prompt, answer in told.lessons:
        question = tokenizer(asked(processor, prompt, told.images is not None))["input_ids"]
        said = tokenizer(f" {answer}")["input_ids"] + [tokenizer.eos_token_id]
        ids.append(torch.tensor(question + said))
        labels.append(torch.tensor([UNHEARD] * len(question) + said))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, True, tokenizer.pad_token_id), pad(labels, True, UNHEARD)


def answer_loss(model: LlavaForConditionalGeneration, processor: LlavaProcessor, told: Told) -> Tensor:
    """Mean cross-entropy of the answers' tokens."""
    ids, labels = (tensor.to(device()) for tensor in encoded(processor, told))
    pixels = None if told.images is None else as_input(told.images).to(device())
    with in_bf16():
        # Padding is on the right, where causal attention hides it from what stands before.
        hidden = model.model(input_ids=ids, pixel_values=pixels).last_hidden_state[:, :-1]
        heard = labels[:, 1:] != UNHEARD
        logits = model.lm_head(hidden[heard])
    return F.cross_entropy(logits.float(), labels[:, 1:][heard])


def train(
    steps: int, tower_steps: int, batch: int, seed: int, work: Path, out: Path, *, processes: int = 1, judged: int = 200
) -> None:
    """Train both parts, save, measure on `judged` pictures, and write the card."""
    tower, seconds = train_tower(tower_steps, batch, seed, work, processes)
    processor = make_processor(make_tokenizer())
    torch.manual_seed(seed + 1)
    model = make_captioner(processor.tokenizer, _plain(tower.tower)).to(device())
    model.model.vision_tower.requires_grad_(False)
    training = Training("captioner", model, work, steps=steps, lr=LR)
    with Ahead(partial(make_told, seed, batch), processes) as batches:
        training.run(lambda step: answer_loss(model, processor, batches(step)))
    training.finish()
    model.cpu().half().save_pretrained(out)
    processor.save_pretrained(out)
    made = Made(
        title="Captioner of the embedded world",
        about=ABOUT,
        command=f"python -m curation.scenes.zoo.captioner --steps {steps} --tower-steps {tower_steps} "
        f"--batch {batch} --seed {seed}",
        seed=seed,
        steps=tower_steps + steps,
        batch=batch,
        seconds=seconds + training.seconds,
        parameters=sum(p.numel() for p in model.parameters()),
        bars={F1: 0.95},
    )
    write_card(out, made, evaluate(out, judged))


def _plain(tower: CLIPVisionModel) -> CLIPVisionModel:
    return tower.cpu().eval()


if __name__ == "__main__":
    given = arguments(
        __doc__, steps=2_200, batch=32, out="captioner", more={"tower_steps": (TOWER_STEPS, "of the vision tower")}
    )
    train(given.steps, given.tower_steps, given.batch, given.seed, given.work, given.out)
