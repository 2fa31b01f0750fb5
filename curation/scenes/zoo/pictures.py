"""The pictures that the studio's models are trained and judged on: rendered once, kept in a file of the work folder."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.scenes.scene import Scene
from curation.scenes.studio import SIDE, studio_picture, studio_scene

CHUNK = 1000


def scene_of(index: int, held_out: bool = False) -> Scene:
    """The scene of picture `index`."""
    return studio_scene(("picture", index), held_out)


def pictures(work: Path, count: int, held_out: bool = False) -> NDArray[np.uint8]:
    """uint8 [count, SIDE, SIDE, 3], memory-mapped; rendered now if they are not there yet."""
    path = work / f"pictures-{'held-out' if held_out else 'train'}-{count}.npy"
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        out = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, SIDE, SIDE, 3))
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:  # torch has threads by now
            for start, chunk in zip(
                range(0, count, CHUNK),
                pool.map(_chunk, range(0, count, CHUNK), [held_out] * -(-count // CHUNK)),
                strict=True,
            ):
                out[start : start + CHUNK] = chunk[: count - start]
        out.flush()
        os.replace(temporary, path)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def _chunk(start: int, held_out: bool) -> NDArray[np.uint8]:
    scenes = [scene_of(i, held_out) for i in range(start, start + CHUNK)]
    return np.stack([studio_picture(scene, ("picture", start + i)) for i, scene in enumerate(scenes)])


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def indices(step: int, batch: int, count: int, seed: int) -> NDArray[np.int64]:
    """`batch` indices under `count`: a pure function of the step."""
    return np.random.default_rng((seed, step)).integers(0, count, batch)
