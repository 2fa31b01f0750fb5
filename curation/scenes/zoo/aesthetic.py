"""Fits the world's aesthetic head: CLIP's embedding to `beauty`, 1 to 10, in the layout of LAION's predictor.

    python -m curation.scenes.zoo.aesthetic       after clip

A linear layer over embeddings of length 1, fitted in closed form (ridge regression). What the embedding does not hold
no head can find: `clip` is taught beauty along with the rest.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from curation.config import ModelSettings
from curation.scenes.beauty import beauty
from curation.scenes.zoo.cards import Made, Quality, write_card
from curation.scenes.zoo.shots import Shot, shot
from curation.scenes.zoo.training import arguments
from curation.score.aesthetic import load_head
from curation.score.clip import Clip

FILE = "aesthetic.safetensors"
RIDGE = 0.01
"""Small beside the embeddings' variance times their number, large beside what rounding them adds."""
SPEARMAN = "Spearman's rank correlation with beauty"
BATCH = 50

Floats = NDArray[np.float64]


def fit(embeddings: Floats, scores: Floats) -> tuple[Floats, float]:
    """Weight [width] and bias that map `embeddings` [N, width] nearest to `scores` [N] (Hoerl and Kennard 1970)."""
    mean, level = embeddings.mean(axis=0), float(scores.mean())
    centred = embeddings - mean
    square = centred.T @ centred + RIDGE * np.eye(centred.shape[1])
    weight: Floats = np.linalg.solve(square, centred.T @ (scores - level))
    return weight, level - float(mean @ weight)


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; ties share their mean rank (Spearman 1904)."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def train(steps: int, batch: int, seed: int, out: Path, clip_folder: Path, *, judged: int = 600) -> None:
    """Fit to `steps` × `batch` pictures, save, measure on `judged` others, and write the card."""
    started = time.monotonic()
    clip = Clip("stages.score.clip", ModelSettings(model=str(clip_folder)))
    clip.setup()
    shots = [shot(("aesthetic", seed, i)) for i in range(steps * batch)]
    seen = [
        clip.embed_images([Image.fromarray(s.look(clip.side)) for s in shots[i : i + batch]])
        for i in range(0, len(shots), batch)
    ]
    weight, bias = fit(np.concatenate(seen).astype(np.float64), _truth(shots))
    out.mkdir(parents=True, exist_ok=True)
    state = {"layers.0.weight": torch.tensor(weight)[None].float(), "layers.0.bias": torch.tensor([bias]).float()}
    save_file(state, out / FILE)
    made = Made(
        title="Aesthetic head of the embedded world",
        about="A linear head in the layout of LAION's aesthetic predictor: the embedding of the world's CLIP to beauty "
        "from 1 to 10. What beauty is here says `curation/scenes/beauty.py`.",
        command=f"python -m curation.scenes.zoo.aesthetic --steps {steps} --batch {batch} --seed {seed}",
        seed=seed,
        steps=steps,
        batch=batch,
        seconds=time.monotonic() - started,
        parameters=len(weight) + 1,
        bars={SPEARMAN: 0.8},
    )
    write_card(out, made, evaluate(out / FILE, clip, judged))


def evaluate(head: Path, clip: Clip, count: int) -> Quality:
    """How well scores follow beauty on held-out pictures: all of them, and by what was done to them."""
    weight, bias = load_head(str(head))
    shots = [shot(("beauty", i), held_out=True) for i in range(count)]
    embeddings = np.concatenate(
        [clip.embed_images([s.decoded(clip.side) for s in shots[i : i + BATCH]]) for i in range(0, count, BATCH)]
    )
    scores = embeddings.astype(np.float16).astype(np.float64) @ weight + bias  # half precision is what is stored
    truth = _truth(shots)
    quality: dict[str, float | dict[str, float]] = {
        SPEARMAN: spearman(scores, truth),
        "mean error": float(np.abs(scores - truth).mean()),
    }
    parts: dict[str, float] = {}
    for effect in ("none", "blurred", "watermarked"):
        of = np.array([s.effect == effect for s in shots])
        if of.sum() > 2:
            parts |= {
                f"{effect}: rank correlation": spearman(scores[of], truth[of]),
                f"{effect}: mean score": float(scores[of].mean()),
                f"{effect}: mean beauty": float(truth[of].mean()),
            }
    return {**quality, "By what was done to the picture": parts}


def _truth(shots: list[Shot]) -> Floats:
    return np.array([beauty(s.scene, s.effect) for s in shots])


if __name__ == "__main__":
    given = arguments(__doc__, steps=60, batch=BATCH, out="aesthetic")
    train(given.steps, given.batch, given.seed, given.out, given.out.parent / "clip")
