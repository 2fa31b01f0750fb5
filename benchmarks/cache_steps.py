"""A step of training with the embedded world's small models, on the cache's tensors or on pixels: what
`benchmarks/cache.py` times. Weights are random, batches lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.distill import ours, pixels
from benchmarks.sdxl import SMALL, make_pipeline
from curation.config.train import OptimizerSettings
from curation.config.wuerstchen import StageCSettings
from curation.scenes.zoo.wuerstchen_parts import SEMANTIC, make_parts, make_vqgan
from curation.train.draws import Draws
from curation.train.loop import total_loss
from curation.train.optimizer import make_optimizer
from curation.wuerstchen.compressor import SemanticCompressor
from curation.wuerstchen.stage_c import StageC

CPU = torch.device("cpu")
PRIOR = {"width": 256, "depth": 4, "heads": 4}


def koala_step(*, cached: bool) -> Callable[[int], None]:
    """Of a student of KOALA-700M's shape."""
    return ours(SMALL, "700M's shape", CPU, torch.float32, cached)


def prior_step(folder: Path, *, cached: bool) -> Callable[[int], None]:
    """Of Stage C; its frozen parts are written to `folder`."""
    recipe = StageC(_settings(folder), seed=0)
    batch: dict[str, Any] = pixels(SMALL)
    if cached:
        with torch.no_grad():
            tensors = {"semantic": recipe.compressor(batch.pop("pixels")), "text": recipe.text(batch["captions"])}
        batch |= {name: tensor.half() for name, tensor in tensors.items()}
    recipe.model.train()
    optimizer = make_optimizer(recipe.model.parameters(), OptimizerSettings())

    def step(number: int) -> None:
        with torch.no_grad():
            prepared = recipe.prepare(batch, Draws(0, number, 0))
        losses = recipe.losses(recipe.model, prepared)
        total_loss(losses, recipe.weights, recipe.sample_weights(prepared)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(recipe.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _settings(folder: Path) -> StageCSettings:
    teacher = make_pipeline(SMALL, CPU, torch.float32)
    models = {
        "compressor": SemanticCompressor(channels=SEMANTIC),
        "vqgan": make_vqgan(),
        "decoder": make_parts().decoder,
        "text": teacher.text_encoder,
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    teacher.tokenizer.save_pretrained(folder / "text")
    named = {name: str(folder / name) for name in models}
    return StageCSettings.model_validate(
        {
            "kind": "wuerstchen_c",
            "text": named["text"],
            "compressor": named["compressor"],
            "prior": PRIOR,
            "decode": {"decoder": named["decoder"], "vqgan": named["vqgan"]},
            "sampling": {"size": [SMALL.side, SMALL.side]},
        }
    )
