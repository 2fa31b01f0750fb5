"""Trains the world's two classifiers: `watermark` (the stock site's name all over a picture) and `safety`.

    python -m curation.scenes.zoo.classifiers [--steps N]

Both are small vision transformers (`ViTForImageClassification`). What is unsafe here is defined in
`curation/scenes/forbidden.py`: something harmless that stands for what a corpus must not hold. Half of the pictures of
a batch show what is looked for; for `safety` another quarter shows what differs from it in one word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from curation.config import ClassifierSettings
from curation.scenes.dice import Dice
from curation.scenes.forbidden import is_unsafe, nearly, with_mark
from curation.scenes.zoo.ahead import Ahead
from curation.scenes.zoo.cards import EVALUATION, Made, Quality, write_card
from curation.scenes.zoo.pictures import as_input
from curation.scenes.zoo.shots import Shot, shot
from curation.scenes.zoo.training import Training, arguments, device, in_bf16
from curation.scenes.zoo.vision import whiten
from curation.score.classifier import Classifier

SIDE, PATCH = 144, 16
WIDTH, DEPTH = 96, 3
LR = 1e-3
LABELS = {"watermark": ("clean", "watermark"), "safety": ("normal", "nsfw")}
"""Of each classifier: what is fine, and what is looked for."""
AUC, RIGHT = "area under the ROC curve", "accuracy at 0.5"


def make_classifier(labels: Sequence[str]) -> ViTForImageClassification:
    """The untrained model."""
    config = ViTConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=WIDTH // 32,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="single_label_classification",
    )
    return ViTForImageClassification(config)


def example(task: str, index: object, held_out: bool = False) -> tuple[Shot, bool]:
    """Picture `index` for a task, and whether it shows what is looked for."""
    dice = Dice(task, index)
    plain = shot(index, held_out)
    if task == "watermark":
        marked = dice.chance(0.5)
        return replace(plain, effect="watermarked" if marked else dice.weighted({"none": 0.9, "blurred": 0.1})), marked
    kind = dice.weighted({"mark": 0.5, "nearly": 0.25, "any": 0.25})
    scene = with_mark(plain.scene, index) if kind == "mark" else plain.scene
    if kind == "nearly":
        scene = nearly(scene, index)
    return replace(plain, scene=scene), is_unsafe(scene)


@dataclass(frozen=True)
class Batch:
    """What a step learns from: uint8 [B, SIDE, SIDE, 3] and int64 [B]."""

    images: NDArray[np.uint8]
    shown: NDArray[np.int64]


def make_batch(task: str, seed: int, size: int, step: int) -> Batch:
    """The batch of a step: a pure function."""
    examples = [example(task, (seed, step, i)) for i in range(size)]
    return Batch(np.stack([s.look(SIDE) for s, _ in examples]), np.array([shown for _, shown in examples], np.int64))


def train(
    task: str, steps: int, batch: int, seed: int, work: Path, out: Path, *, processes: int = 1, judged: int = 600
) -> None:
    """Train, save, measure on `judged` pictures, and write the card."""
    torch.manual_seed(seed)
    model = make_classifier(LABELS[task])
    embeddings = model.vit.embeddings
    whiten(embeddings.patch_embeddings.projection, embeddings.position_embeddings, SIDE)
    model.to(device())
    training = Training(task, model, work, steps=steps, lr=LR)
    with Ahead(partial(make_batch, task, seed, batch), processes) as batches:

        def loss(step: int) -> Tensor:
            given = batches(step)
            with in_bf16():
                logits = model(pixel_values=as_input(given.images).to(device())).logits
            return F.cross_entropy(logits.float(), torch.from_numpy(given.shown).to(device()))

        training.run(loss)
    training.finish()
    model.cpu().half().save_pretrained(out)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=Image.Resampling.BICUBIC).save_pretrained(out)
    sought = "a stock site's name all over it" if task == "watermark" else "a large red cross, the world's unsafe thing"
    made = Made(
        title=f"{task.capitalize()} classifier of the embedded world",
        about=f"Tells whether a picture shows {sought}: the probability of its label `{LABELS[task][1]}`.",
        command=f"python -m curation.scenes.zoo.classifiers --steps {steps} --batch {batch} --seed {seed}",
        seed=seed,
        steps=steps,
        batch=batch,
        seconds=training.seconds,
        parameters=sum(p.numel() for p in model.parameters()),
        bars={AUC: 0.99},
    )
    write_card(out, made, evaluate(task, out, judged))


def evaluate(task: str, folder: Path, count: int) -> Quality:
    """On held-out pictures of full size, through the operator of the score stage."""
    settings = ClassifierSettings(model=str(folder), labels=LABELS[task][1:])
    classifier = Classifier(task, settings)
    classifier.setup()
    examples = [example(task, i, held_out=True) for i in range(count)]
    scores, truth = [], np.array([shown for _, shown in examples])
    for start in range(0, count, 50):
        images = [s.decoded(classifier.side) for s, _ in examples[start : start + 50]]
        rows = pa.table({"row": list(range(len(images)))})
        scores.append(classifier.process(rows, images)[task].to_numpy())
    given = np.concatenate(scores)
    return {
        AUC: auc(given[truth], given[~truth]),
        RIGHT: float(((given > 0.5) == truth).mean()),
        "found of what is sought, at 0.5": float((given[truth] > 0.5).mean()),
        "wrongly accused, at 0.5": float((given[~truth] > 0.5).mean()),
    }


def auc(shown: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How often a picture that shows it scores higher than one that does not; ties count half."""
    apart = np.sign(shown[:, None] - other[None, :])
    return float((apart.mean() + 1) / 2)


if __name__ == "__main__":
    given = arguments(__doc__, steps=800, batch=64, out="")
    for name in (name for name in LABELS if not (given.out / name / EVALUATION).exists()):
        train(name, given.steps, given.batch, given.seed, given.work, given.out / name)
