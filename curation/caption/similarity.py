"""How well a caption fits its image, by CLIP: what `min_similarity` is held against.

CLIPScore (Hessel et al. 2021) without its factor of 2.5: the cosine of the two embeddings. The caption stage asks for
every text that passed the other checks; a text beyond CLIP's limit is judged by its beginning.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.config import ModelSettings
from curation.score.clip import Clip

Floats = npt.NDArray[np.float32]


class Similarity:
    """CLIP on the device of its worker. Made in the driver, set up in each worker."""

    def __init__(self, settings: ModelSettings, gpus: float) -> None:
        self._clip = Clip("stages.caption.clip", settings, gpus)

    def identity(self) -> dict[str, Any]:
        """What changes the similarities."""
        return self._clip.identity()

    def check(self, online: bool) -> None:
        """Refuse a model that cannot work. Raises ConfigError."""
        copy.copy(self._clip).check(online)  # what it loads here is not for the workers

    def setup(self) -> None:
        self._clip = copy.copy(self._clip)
        self._clip.setup()
        # One thread: the event loop goes on, and no two calls are in the tokenizer, which cannot be shared.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clip")

    async def embed(self, images: Sequence[Image.Image]) -> Floats:
        """[N, width], each row of length 1."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._clip.embed_images, images)

    async def to_texts(self, embeddings: Sequence[Floats], texts: Sequence[str]) -> list[float]:
        """The cosine of each embedding and its text, -1 to 1."""
        loop = asyncio.get_running_loop()
        written = await loop.run_in_executor(self._thread, self._clip.embed_texts, texts)
        return [float(cosine) for cosine in (np.stack(embeddings) * written).sum(axis=1)]

    def close(self) -> None:
        self._thread.shutdown()
        self._clip.close()
