"""The tensors of one sample as bytes of a shard, and back. What is read may be anybody's: it is compared with what the
manifest says before it is believed.

`UID.safetensors` holds `latents` [C, h, w], `semantic` latents [C, h, w], or both; with them `sizes` (int32: height and
width of the picture before any resize, rows and columns cut off above and left at the size that was encoded, height and
width of that size); and, for each kind of caption, `text.KIND` [T, D] and, where the encoder makes one, `pooled.KIND`
[P]. One dot in its name, so that readers take it for one extension.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.encode.cache import EMPTY_FILE, CacheFacts, TextFacts
from curation.errors import CorruptionError
from curation.storage import Folder

if TYPE_CHECKING:
    from torch import Tensor

EXTENSION = "safetensors"
Pair = tuple[int, int]


@dataclass(frozen=True)
class Text:
    """A caption's embeddings."""

    text: Tensor
    """[T, D]."""
    pooled: Tensor | None = None
    """[P]; None where the encoder makes none."""

    def to(self, dtype: Any) -> Text:
        """The same in another dtype of torch."""
        return Text(self.text.to(dtype), None if self.pooled is None else self.pooled.to(dtype))

    def named(self, ending: str = "") -> dict[str, Tensor]:
        """Its tensors by the names that they are stored under: `text.KIND` with the ending ".KIND"."""
        pooled = {} if self.pooled is None else {f"pooled{ending}": self.pooled}
        return {f"text{ending}": self.text, **pooled}


@dataclass(frozen=True)
class Latents:
    """What is stored of a picture, and what SDXL is conditioned on beside it."""

    latents: Tensor | None
    """[C, h, w], as the VAE gives them: not scaled."""
    original_size: Pair
    """(height, width) before any resize, pixels."""
    crop_top_left: Pair
    """Rows and columns cut off, in pixels of the picture that was encoded."""
    size: Pair
    """(height, width) of the picture that was encoded."""
    semantic: Tensor | None = None
    """[C, h, w], as the semantic compressor gives them: not scaled."""

    def named(self) -> dict[str, Tensor]:
        """Its latents by the names that they are stored under."""
        both = {"latents": self.latents, "semantic": self.semantic}
        return {name: tensor for name, tensor in both.items() if tensor is not None}


def torch_dtype(name: str) -> Any:
    """torch's dtype for "fp16" or "bf16"."""
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16}[name]


def to_bytes(latents: Latents | None, texts: Mapping[str, Text]) -> bytes:
    """A sample's member; equal tensors give equal bytes. The tensors have the dtype that they are stored in."""
    import torch
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    if latents is not None:
        sizes = (*latents.original_size, *latents.crop_top_left, *latents.size)
        tensors |= latents.named() | {"sizes": torch.tensor(sizes, dtype=torch.int32)}
    for kind, text in texts.items():
        tensors |= text.named(f".{kind}")
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def latents_of(found: Mapping[str, Tensor], facts: CacheFacts, size: Pair) -> Latents:
    """The latents among a sample's tensors. Raises ValueError where they are not of a picture of `size` (h, w)."""
    import torch

    height, width = size
    latents = semantic = None
    if facts.channels is not None:
        shape = (facts.channels, height // facts.factor, width // facts.factor)
        latents = _checked(found, "latents", shape, torch_dtype(facts.dtype))
    if facts.semantic is not None:
        shape = (facts.semantic.channels, *facts.semantic.size(height, width))
        semantic = _checked(found, "semantic", shape, torch_dtype(facts.dtype))
    sizes = _checked(found, "sizes", (6,), torch.int32).tolist()
    if sizes[4:] != [height, width] or min(sizes) < 0:
        raise ValueError(f"its sizes are {sizes}, of a picture of {width}x{height}")
    return Latents(latents, (sizes[0], sizes[1]), (sizes[2], sizes[3]), size, semantic)


def text_of(found: Mapping[str, Tensor], facts: TextFacts, dtype: str, kind: str | None) -> Text:
    """The embeddings of one kind of caption; of no caption for None. Raises ValueError."""
    ending = "" if kind is None else f".{kind}"
    kept = torch_dtype(dtype)
    text = _checked(found, f"text{ending}", (facts.tokens, facts.width), kept)
    return Text(text, _checked(found, f"pooled{ending}", (facts.pooled,), kept) if facts.pooled else None)


def read_tensors(data: bytes | memoryview) -> dict[str, Tensor]:
    """The tensors of a safetensors file, copied. Raises ValueError where it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(bytes(data))
    except (SafetensorError, KeyError, ValueError, TypeError, AssertionError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def empty_bytes(empty: Text) -> bytes:
    """The file of what stands for no caption."""
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in empty.named().items()})


def read_empty(folder: Folder, facts: CacheFacts) -> Text:
    """What stands for no caption in the corpus in `folder`. Raises CorruptionError where it is not what was stored."""
    assert facts.texts is not None
    data = folder.read_bytes(EMPTY_FILE)
    try:
        if hashlib.sha256(data).hexdigest() != facts.texts.empty_sha256:
            raise ValueError("its SHA-256 is not the one in the manifest")
        return text_of(read_tensors(data), facts.texts, facts.dtype, None)
    except ValueError as error:
        raise CorruptionError(f"{folder.path(EMPTY_FILE)}: {error}") from None


def _checked(found: Mapping[str, Tensor], name: str, shape: tuple[int, ...], dtype: Any) -> Tensor:
    tensor = found.get(name)
    if tensor is None:
        raise ValueError(f"it holds no {name!r}")
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise ValueError(f"{name!r} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}")
    return tensor
