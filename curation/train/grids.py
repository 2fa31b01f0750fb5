"""Pictures of the fixed prompts, drawn while a training goes on: `grids/STEP/` the student's, `grids/reference/` the
teacher's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from curation.config.train import TrainConfig
from curation.storage import storage_errors
from curation.train.recipe import Recipe

GRIDS, REFERENCE = "grids", "reference"
_OF = "of.json"
"""Of which prompts and models the pictures are."""


def grid_seeds(config: TrainConfig) -> list[int]:
    """A seed for each prompt of the grids."""
    return [config.grids.seed + i for i in range(len(config.grids.prompts))]


def save_grid(folder: Path, images: Sequence[Image.Image]) -> None:
    """Write pictures of the fixed prompts, in their order. Raises StorageError."""
    temporary = folder.with_name(f"writing-{folder.name}")
    with storage_errors(str(folder)):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for i, image in enumerate(images):
            image.save(temporary / f"{i:02d}.png")
        os.rename(temporary, folder)  # a folder that is there is whole


def clear_grids(config: TrainConfig, recipe: Recipe, done: int) -> None:
    """Take away pictures of other prompts or models, and of steps after `done`, which are going to be done again.
    Raises StorageError."""
    folder, grids = Path(config.output) / GRIDS, config.grids
    told = json.dumps({"prompts": grids.prompts, "seed": grids.seed, "models": dict(recipe.signature())}, indent=1)
    with storage_errors(str(folder)):
        if not (folder / _OF).exists() or (folder / _OF).read_text(encoding="utf-8") != told:
            shutil.rmtree(folder, ignore_errors=True)
        for path in folder.glob("[0-9]*"):
            if int(path.name) > done:
                shutil.rmtree(path)
        if grids.prompts:
            folder.mkdir(exist_ok=True)
            (folder / _OF).write_text(told, encoding="utf-8")


def draw_reference(config: TrainConfig, recipe: Recipe) -> None:
    """The teacher's pictures of the fixed prompts, once, where there is a teacher. Raises StorageError."""
    folder = Path(config.output) / GRIDS / REFERENCE
    if config.grids.prompts and not folder.exists():
        images = recipe.reference(config.grids.prompts, grid_seeds(config))
        if images is not None:
            save_grid(folder, images)
