"""Trains the world's CLIP: pictures and descriptions of scenes to one space of 128 numbers (`CLIPModel`).

    python -m curation.scenes.zoo.clip [--steps N]

The contrastive loss (Radford et al. 2021) has company while it learns: each patch names what its cell holds, and both
embeddings tell the same linear head what the scene holds, which brings them together; a last head reads the picture's
beauty off its embedding, so that the aesthetic head has something to find. All three heads are dropped afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer

from curation.config import ModelSettings
from curation.scenes.beauty import beauty
from curation.scenes.describe import dense, medium, short
from curation.scenes.dice import Dice
from curation.scenes.scene import POSITIONS
from curation.scenes.zoo.ahead import Ahead
from curation.scenes.zoo.cards import Made, Quality, write_card
from curation.scenes.zoo.grid import ANSWERS, PatchHead, classes, grid_loss
from curation.scenes.zoo.pictures import as_input
from curation.scenes.zoo.shots import shot
from curation.scenes.zoo.tokenizer import MAX_TOKENS, make_tokenizer
from curation.scenes.zoo.training import Training, arguments, device, in_bf16
from curation.scenes.zoo.vision import image_processor, layers, whiten_clip
from curation.score.clip import Clip

SIDE, PATCH = 144, 16
"""Pixels: three patches a cell, and a blurred picture still looks blurred."""
WIDTH = 128
LR = 1e-3
CAPTIONS = {"dense": 0.7, "medium": 0.15, "short": 0.15}
AMONG = 64
"""Captions from which the right one is to be found."""


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """The untrained model: four layers for pictures, three for texts."""
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**layers(WIDTH, 3), **text, "projection_dim": WIDTH},
        vision_config={**layers(WIDTH, 4), "image_size": SIDE, "patch_size": PATCH, "projection_dim": WIDTH},
        projection_dim=WIDTH,
    )
    return CLIPModel(config)


class Parts(nn.Module):
    """What learns together: the model, and the heads that are dropped afterwards."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.clip = make_clip(tokenizer)
        self.patches = PatchHead(WIDTH, SIDE // PATCH)
        self.scene = nn.Linear(WIDTH, len(POSITIONS) * sum(ANSWERS))
        self.beauty = nn.Linear(WIDTH, 1)

    def read(self, embedding: Tensor) -> Tensor:
        """Logits [B, 9, sum(ANSWERS)] of what a scene holds, from unit embeddings [B, WIDTH] of picture or text."""
        logits: Tensor = self.scene(embedding * WIDTH**0.5)
        return logits.view(len(logits), len(POSITIONS), sum(ANSWERS))


@dataclass(frozen=True)
class Batch:
    """What a step learns from."""

    images: NDArray[np.uint8]
    """[B, SIDE, SIDE, 3]"""
    texts: list[str]
    told: NDArray[np.bool_]
    """[B]: the text tells all."""
    classes: NDArray[np.int64]
    """[B, 9, 8]"""
    beauty: NDArray[np.float32]


def make_batch(seed: int, size: int, step: int) -> Batch:
    """The batch of a step: a pure function."""
    shots = [shot((seed, step, i)) for i in range(size)]
    kinds = [Dice("clip", s.seed).weighted(CAPTIONS) for s in shots]
    texts = [
        dense(s.scene, s.seed) if kind == "dense" else medium(s.scene) if kind == "medium" else short(s.scene)
        for s, kind in zip(shots, kinds, strict=True)
    ]
    return Batch(
        images=np.stack([s.look(SIDE) for s in shots]),
        texts=texts,
        told=np.array([kind == "dense" for kind in kinds]),
        classes=np.stack([classes(s.scene) for s in shots]),
        beauty=np.array([beauty(s.scene, s.effect) for s in shots], np.float32),
    )


def losses(parts: Parts, tokenizer: CLIPTokenizer, batch: Batch) -> Tensor:
    """The sum of the four losses."""
    where = next(parts.parameters()).device
    tokens = tokenizer(batch.texts, padding=True, truncation=True, return_tensors="pt").to(where)
    wanted = torch.from_numpy(batch.classes).to(where)
    with in_bf16():
        seen = parts.clip.vision_model(pixel_values=as_input(batch.images).to(where))
        picture = F.normalize(parts.clip.visual_projection(seen.pooler_output).float(), dim=-1)
        read = parts.clip.text_model(**tokens)
        text = F.normalize(parts.clip.text_projection(read.pooler_output).float(), dim=-1)
        patches = parts.patches.loss(seen.last_hidden_state[:, 1:], wanted)
        told = torch.from_numpy(batch.told).to(where)
        scene = grid_loss(parts.read(picture), wanted)
        if batch.told.any():
            scene = scene + grid_loss(parts.read(text[told]), wanted[told])
        rated = parts.beauty(picture * WIDTH**0.5).float().squeeze(-1)
    similar = parts.clip.logit_scale.exp().clamp(max=100) * picture @ text.T
    right = torch.arange(len(similar), device=where)
    contrast = (F.cross_entropy(similar, right) + F.cross_entropy(similar.T, right)) / 2
    taste = F.mse_loss(rated, torch.from_numpy(batch.beauty).to(where)) / 2
    return contrast + patches + scene + taste


def train(steps: int, batch: int, seed: int, work: Path, out: Path, *, processes: int = 1, judged: int = 512) -> None:
    """Train, save, measure on `judged` pictures, and write the card."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    parts = Parts(tokenizer)
    whiten_clip(parts.clip.vision_model)
    parts.to(device())
    training = Training("clip", parts, work, steps=steps, lr=LR)
    held_out = [shot(i, held_out=True) for i in range(64)]
    looked = as_input(np.stack([s.look(SIDE) for s in held_out]))
    wanted = torch.from_numpy(np.stack([classes(s.scene) for s in held_out]))

    def report(step: int) -> list[tuple[str, float]]:
        with torch.no_grad(), in_bf16():
            seen = parts.clip.vision_model(pixel_values=looked.to(device())).last_hidden_state[:, 1:]
            return list(parts.patches.right(seen, wanted.to(device())).items())

    with Ahead(partial(make_batch, seed, batch), processes) as batches:
        training.run(lambda step: losses(parts, tokenizer, batches(step)), report)
    training.finish()
    save(parts.clip, tokenizer, out)
    made = Made(
        title="CLIP of the embedded world",
        about=ABOUT,
        command=f"python -m curation.scenes.zoo.clip --steps {steps} --batch {batch} --seed {seed}",
        seed=seed,
        steps=steps,
        batch=batch,
        seconds=training.seconds,
        parameters=sum(p.numel() for p in parts.clip.parameters()),
        bars={RETRIEVAL: 0.9},
    )
    write_card(out, made, evaluate(out, judged))


def save(clip: CLIPModel, tokenizer: CLIPTokenizer, out: Path) -> None:
    """The model in half precision with its processor and tokenizer."""
    clip.cpu().half().save_pretrained(out)
    CLIPProcessor(image_processor(SIDE), tokenizer).save_pretrained(out)


ABOUT = f"""A `CLIPModel` that takes pictures and descriptions of scenes to one space of {WIDTH} numbers.

Pictures are squeezed to {SIDE} × {SIDE} pixels, whatever their aspect. The tokenizer knows every word of the world's
descriptions. Beside the contrastive loss it has learnt to name what each cell of a picture holds and how beautiful the
picture is (`curation/scenes/beauty.py`); the heads for that were dropped."""
RETRIEVAL = f"right dense caption of a picture among {AMONG}"


def evaluate(folder: Path, count: int) -> Quality:
    """Retrieval on held-out pictures of full size, through the operator of the score stage."""
    clip = Clip("stages.score.clip", ModelSettings(model=str(folder)))
    clip.setup()
    quality: dict[str, float | dict[str, float]] = {}
    shots = [shot(i, held_out=True, effect="none") for i in range(count)]
    texts = clip.embed_texts([dense(s.scene, s.seed) for s in shots])
    pictures = clip.embed_images([s.decoded(clip.side) for s in shots])
    quality[RETRIEVAL] = found(pictures, texts)
    quality[f"right picture of a dense caption among {AMONG}"] = found(texts, pictures)
    for name, others in {
        "medium": [medium(s.scene) for s in shots],
        "short": [short(s.scene) for s in shots],
    }.items():
        quality[f"right {name} caption among {AMONG}"] = found(pictures, clip.embed_texts(others))
    return quality


def found(asked: NDArray[np.float32], answers: NDArray[np.float32]) -> float:
    """Share of unit rows `asked` whose own row of `answers` is the nearest of the `AMONG` in its group."""
    hits = [
        (a @ b.T).argmax(axis=1) == np.arange(len(a))
        for start in range(0, len(asked), AMONG)
        for a, b in [(asked[start : start + AMONG], answers[start : start + AMONG])]
    ]
    return float(np.concatenate(hits).mean())


if __name__ == "__main__":
    given = arguments(__doc__, steps=2_000, batch=64, out="clip")
    train(given.steps, given.batch, given.seed, given.work, given.out)
