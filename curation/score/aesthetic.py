"""LAION's aesthetic score: a head over CLIP's embedding that was fitted to people's ratings from 1 to 10.

Schuhmann 2022, "improved-aesthetic-predictor"; the released head "sac+logos+ava1-l14-linearMSE" takes embeddings of
OpenAI's ViT-L/14 of length 1. It is a stack of linear layers without anything between them (dropout apart, which only
training uses), hence one linear map: it is multiplied out in float64 when it is loaded. That the embedding is stored
as float16 moves the released head's score by 0.0001 (rms; 0.0004 at most in 2,000 random directions).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.config import HeadSettings
from curation.errors import ConfigError
from curation.hub import fetch_file
from curation.model_signature import file_signature
from curation.op import BatchOperator
from curation.row import CLIP_EMBEDDING
from curation.score.clip import Clip
from curation.text import first_line

Array = npt.NDArray[np.float64]

SETTING = "stages.score.aesthetic"


class Aesthetic(BatchOperator):
    """Writes `aesthetic`."""

    reads = (CLIP_EMBEDDING,)
    writes = (pa.field("aesthetic", pa.float32()),)

    def __init__(self, head: HeadSettings, clip: Clip) -> None:
        """`head`: a state dict, `.pth` or `.safetensors`; `clip` gives the embedding."""
        self.head = head
        self.clip = clip

    def identity(self) -> dict[str, Any]:
        """What changes the scores: the file's content, or what names it on the hub."""
        if self.head.file is not None:
            return {"head": self.head.model_dump()}
        return {"head": file_signature(SETTING, self.head.model)}

    def check(self, online: bool) -> None:
        """Refuse a head that cannot be loaded, or is not for this CLIP (checked before). Raises ConfigError."""
        if self.head.file is None or online:
            self.setup()
            self._check_width(self.clip.width)

    def setup(self) -> None:
        path = self.head.model
        if self.head.file is not None:
            path = str(fetch_file(SETTING, self.head.model, self.head.file, self.head.revision))
        self.weight, self.bias = load_head(path)

    def _check_width(self, width: int | None) -> None:
        if width is not None and width != len(self.weight):
            raise ConfigError(
                SETTING,
                f"{self.head.file or self.head.model} takes embeddings of {len(self.weight)} numbers; those of "
                f"{self.clip.settings.model} have {width}",
            )

    def process(self, batch: pa.Table) -> pa.Table:
        column = batch[CLIP_EMBEDDING].combine_chunks()
        self._check_width(column.type.list_size)
        embeddings = column.flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1).astype(np.float64)
        # Row by row: a matrix product may sum in another order in a batch of another size.
        scores = np.array([row @ self.weight + self.bias for row in embeddings], np.float32)
        return batch.append_column(self.writes[0], pa.array(scores))


def load_head(path: str) -> tuple[Array, float]:
    """Weight [width] and bias of the head in `path`. Raises ConfigError where it holds anything else."""
    layers = _layers(path, _state(path))
    weight, bias = layers[-1]
    for inner, offset in reversed(layers[:-1]):
        weight, bias = weight @ inner, weight @ offset + bias
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ConfigError(SETTING, f"{path} holds numbers that are not finite")
    return weight[0], float(bias[0])


def _state(path: str) -> dict[str, Array]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(SETTING, f"no file {path}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(file)
        else:
            import torch

            state = torch.load(file, map_location="cpu", weights_only=True)
        return {str(key): tensor.double().numpy() for key, tensor in state.items()}
    except Exception as error:  # damage makes both raise many kinds; so does a pickle of more than weights
        reason = first_line(error)
        raise ConfigError(SETTING, f"{path} holds no weights that can be loaded: {reason}") from None


def _layers(path: str, state: dict[str, Array]) -> list[tuple[Array, Array]]:
    """Weights [out, in] and biases [out] in order. Names end in the layer's number: `layers.0.weight`, …"""
    numbers = sorted(
        (int(found[2]), found[1]) for name in state if (found := re.fullmatch(r"(.*?)(\d+)\.weight", name))
    )
    try:
        layers = [(state[f"{prefix}{n}.weight"], state[f"{prefix}{n}.bias"]) for n, prefix in numbers]
        widths = [layers[0][0].shape[1], *(weight.shape[0] for weight, _ in layers)]
    except (KeyError, IndexError):
        widths, layers = [], []
    fits = all(w.shape == (b, a) and o.shape == (b,) for (w, o), a, b in zip(layers, widths, widths[1:], strict=False))
    if not layers or not fits or widths[-1] != 1 or len(state) != 2 * len(layers):
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in list(state.items())[:4])
        raise ConfigError(SETTING, f"{path} is no stack of linear layers that ends in one number: {shapes}")
    return layers
