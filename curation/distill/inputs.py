"""A batch of the stream → what a U-Net of SDXL's kind takes: latents, text embeddings, sizes. Recipes of this package
call it; where the corpus has latents or embeddings in its cache, these are taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from curation.distill.teacher import Teacher, Text
from curation.errors import CorruptionError
from curation.train.recipe import TorchBatch


def latents_of(batch: TorchBatch, teacher: Teacher) -> Tensor:
    """Scaled latents, float32 [B, C, h, w]. Raises CorruptionError where cached ones are of another VAE."""
    if "latents" not in batch:
        return teacher.encode_pixels(batch["pixels"])
    latents: Tensor = batch["latents"]
    channels = teacher.unet.config.in_channels
    if latents.shape[1] != channels:
        raise CorruptionError(f"the corpus's latents have {latents.shape[1]} channels, the teacher's {channels}")
    return teacher.scaled(latents)


def texts_of(batch: TorchBatch, teacher: Teacher, dropped: Tensor) -> Text:
    """Text embeddings; those of no caption where `dropped`, bool [B], says so, and where a caption is empty."""
    # A kind of caption that says nothing is no caption, whatever "" would be encoded to.
    dropped = dropped | torch.tensor([not caption for caption in batch["captions"]])
    if "text" in batch:
        dtype = teacher.pipeline.text_encoder.dtype
        text, pooled = (batch[name].to(teacher.device, dtype) for name in ("text", "pooled"))
    else:
        text, pooled = teacher.encode_texts(batch["captions"])
    if dropped.any():
        empty, empty_pooled = teacher.empty_text()
        out = dropped.to(teacher.device)
        text = torch.where(out[:, None, None], empty.to(text.dtype), text)
        pooled = torch.where(out[:, None], empty_pooled.to(pooled.dtype), pooled)
    return text, pooled


def sizes_of(batch: TorchBatch, constant: tuple[int, int] | None = None) -> Tensor:
    """SDXL's size conditioning, int64 [B, 6]: original size (or `constant`), crop, target size, rows before columns."""
    original: Tensor = batch["original_sizes"]
    if constant is not None:
        original = torch.tensor(constant).expand_as(original)
    return torch.cat([original, batch["crop_top_lefts"], batch["target_sizes"]], dim=1)
