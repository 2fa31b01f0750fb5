"""CLIP, run once an image: the embedding that `aesthetic` and semantic duplicates use, and the similarity of image and
original caption.

Radford et al. 2021: both encoders end in a projection to one space, where the cosine says how well they fit. SigLIP
(Zhai et al. 2023) works the same way, though its cosines are smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.config import ModelSettings
from curation.errors import ConfigError
from curation.row import CLIP_EMBEDDING
from curation.score.model import ModelOperator

if TYPE_CHECKING:
    import torch
    from PIL import Image

Floats = npt.NDArray[np.float32]

SIMILARITY = pa.field("clip_similarity", pa.float32())

# Width of the embedding in a model's configuration; and how its texts were padded when it was trained: CLIP hides the
# padding behind a mask, SigLIP reads all of it.
_WIDTHS = {"clip": lambda c: c.projection_dim, "siglip": lambda c: c.vision_config.hidden_size}
_PADDING = {
    "clip": {"padding": "longest", "return_attention_mask": True},
    "siglip": {"padding": "max_length", "return_attention_mask": False},
}


class Clip(ModelOperator):
    """Writes `clip_embedding` and `clip_similarity`."""

    auto_class = "AutoModel"
    reads = ("alt_text",)

    def __init__(self, setting: str, settings: ModelSettings, gpus: float = 0) -> None:
        super().__init__(setting, settings, gpus)
        self.width: int | None = None
        """Of the embedding; None until the model's configuration was read."""

    @property
    def writes(self) -> tuple[pa.Field, ...]:  # type: ignore[override]
        """Its list has a fixed size once `check` or `setup` has seen the model's configuration."""
        width = -1 if self.width is None else self.width
        return pa.field(CLIP_EMBEDDING, pa.list_(pa.float16(), width)), SIMILARITY

    def _check_config(self, config: Any) -> None:
        if config.model_type not in _WIDTHS:
            raise ConfigError(
                self.setting,
                f"{self.settings.model} is of type {config.model_type!r}; an encoder of images and of texts is needed: "
                f"{' or '.join(_WIDTHS)}",
            )
        self.width = int(_WIDTHS[config.model_type](config))
        self._padding = _PADDING[config.model_type]
        self._words = int(config.text_config.vocab_size)
        self._text_limit = int(config.text_config.max_position_embeddings)

    def _load_processors(self) -> None:
        super()._load_processors()
        self.tokenizer = self._load("AutoTokenizer")
        if len(self.tokenizer) < self._words / 2:  # `transformers` makes an empty one where the files are missing
            raise ConfigError(
                self.setting,
                f"the tokenizer of {self.settings.model} knows {len(self.tokenizer)} of the model's {self._words} "
                "tokens: are its files there?",
            )

    def process(self, batch: pa.Table, images: Sequence[Image.Image]) -> pa.Table:
        pictures = self.embed_images(images)
        texts = [(text or "").strip() for text in batch["alt_text"].to_pylist()]
        said = [i for i, text in enumerate(texts) if text]
        similarity = np.full(len(texts), np.nan, np.float32)
        if said:
            similarity[said] = (pictures[said] * self.embed_texts([texts[i] for i in said])).sum(axis=1)
        embedding, _ = self.writes
        flat = pa.array(pictures.astype(np.float16).reshape(-1))
        batch = batch.append_column(embedding, pa.FixedSizeListArray.from_arrays(flat, self.width))
        return batch.append_column(SIMILARITY, pa.array(similarity, mask=np.isnan(similarity)))

    def embed_images(self, images: Sequence[Image.Image]) -> Floats:
        """[N, width], each row of length 1."""
        import torch

        with torch.inference_mode():
            return _unit(self.model.get_image_features(pixel_values=self.pixels(images)))

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """[N, width], each row of length 1. Texts are cut off at the model's limit."""
        import torch

        tokens = self.tokenizer(
            list(texts), truncation=True, max_length=self._text_limit, return_tensors="pt", **self._padding
        )
        with torch.inference_mode():
            return _unit(self.model.get_text_features(**tokens.to(self.device)))


def _unit(output: Any) -> Floats:
    """The projected features of a model's output in float32, each row of length 1."""
    import torch

    features: torch.Tensor = output.pooler_output
    array: Floats = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return array
