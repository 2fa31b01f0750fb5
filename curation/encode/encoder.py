"""The models at work: pictures → latents, captions → embeddings, as a training makes them: of SDXL's kind here,
Würstchen's in `wuerstchen.py`.

Constructed in the driver; a worker's `setup` loads the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curation.config.encode import EncodeSettings
from curation.encode.member import Text
from curation.encode.signatures import TEXT_PARTS, VAE, Signatures, part_signatures
from curation.encode.wuerstchen import WuerstchenEncoder
from curation.errors import ConfigError
from curation.hub import fetch_file
from curation.model_signature import file_signature
from curation.models import (
    check_installed,
    check_weights,
    device_and_dtype,
    is_local,
    quieten,
)

if TYPE_CHECKING:
    from torch import Tensor

MODEL, VAE_SETTING = "stages.encode.model", "stages.encode.vae"
INDEX = "model_index.json"


class Encoder:
    """A VAE, a semantic compressor and text encoders, those of them that `settings` ask for."""

    def __init__(self, settings: EncodeSettings) -> None:
        self._settings = settings
        self._model = settings.model or ""
        """Of what `_parts` names."""
        self.wuerstchen = WuerstchenEncoder(settings)

    def signatures(self) -> Signatures:
        """Of the models that are used. Raises ConfigError where a local one is not there."""
        given, parts = self._settings, self._parts()
        found: Signatures = {}
        if parts:
            found = part_signatures(MODEL, self._model, given.revision, given.variant, given.vae)
        return {part: found[part] for part in found if part in parts} | self.wuerstchen.signatures()

    def identity(self) -> dict[str, Any]:
        """What changes the tensors, beside the settings. Of a local model its files: where it lies changes nothing."""
        models = self.signatures()
        pipeline = None  # it says what stands for no caption
        if self._of_pipeline and is_local(self._model):
            pipeline = file_signature(MODEL, str(Path(self._model).expanduser() / INDEX))
        return {"models": models, "pipeline": pipeline}

    @property
    def _of_pipeline(self) -> bool:
        """Whether texts are encoded by the pipeline."""
        return bool(self._settings.texts) and self._settings.text is None

    def _parts(self) -> tuple[str, ...]:
        """Of the pipeline."""
        return (*((VAE,) if self._settings.latents else ()), *(TEXT_PARTS if self._of_pipeline else ()))

    def check(self, online: bool) -> None:
        """Refuse models that cannot be loaded, before any work; on the hub only if `online`. Raises ConfigError."""
        given = self._settings
        self.wuerstchen.check(online)
        if not self._parts():
            return
        check_installed(MODEL, "diffusers", "torch", "transformers", extra="train")
        parts = [part for part in self._parts() if part != VAE or given.vae is None]
        if is_local(self._model):
            folder = Path(self._model).expanduser()
            for part in parts:
                if not part.startswith("tokenizer"):  # that those are there `signatures` has seen
                    check_weights(MODEL, folder / part)
        elif online and parts:
            fetch_file(MODEL, self._model, INDEX, given.revision)
        if given.latents and given.vae is not None:
            if is_local(given.vae):
                check_weights(VAE_SETTING, Path(given.vae).expanduser())
            elif online:
                fetch_file(VAE_SETTING, given.vae, "config.json", None)

    def setup(self) -> None:
        """Load the models. Raises ConfigError where they cannot be loaded as they are."""
        import torch

        from curation.sdxl import load_part, load_pipeline, load_vae, vae_dtype

        quieten()
        torch.set_num_threads(1)  # the last bits of what several threads compute depend on their number
        given = self._settings
        self.device, dtype = device_and_dtype(given.run.gpus, "stages.encode.run.gpus")
        if given.latents:
            if given.vae is not None:
                self.vae = load_vae(VAE_SETTING, given.vae).eval()
            else:
                self.vae = load_part(MODEL, VAE, self._model, given.revision, given.variant).eval()
            self.vae.to(self.device, vae_dtype(self.vae, dtype))
        self.wuerstchen.setup(self.device, dtype)
        if self._of_pipeline:
            self.pipeline = load_pipeline(MODEL, self._model, given.revision, given.variant, vae=None, unet=None)
            self.pipeline.text_encoder.eval()
            self.pipeline.text_encoder_2.eval()
            self.pipeline.to(self.device, dtype)

    @property
    def factor(self) -> int:
        """Pixels a side of one latent."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def latents(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Means of the posterior, float32 [B, C, H/f, W/f] on the CPU, of RGB pictures [H, W, 3] of one size.

        Raises ConfigError where that size is no multiple of `factor`: the VAE would cut off what is left over.
        """
        import torch

        from curation.sdxl import posterior_mean

        height, width = pictures[0].shape[:2]
        if height % self.factor or width % self.factor:
            told = f"pictures of {width}x{height} are no multiples of the VAE's {self.factor}"
            where = "pack.buckets" if self._settings.resolution is None else "encode.resolution"
            raise ConfigError(f"stages.{where}", told)
        with torch.no_grad():
            pixels = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2)
            return posterior_mean(self.vae, pixels).float().cpu()

    def texts(self, captions: Sequence[str]) -> list[Text]:
        """Embeddings of each caption, float32 on the CPU; a caption that says nothing is no caption (`empty`)."""
        found = self._encode(captions)
        return [text if caption else self.empty for caption, text in zip(captions, found, strict=True)]

    @cached_property
    def empty(self) -> Text:
        """What stands for no caption."""
        import torch

        from curation.sdxl import no_text

        if not self._of_pipeline:
            return self.wuerstchen.texts([""])[0]

        with torch.no_grad():
            text, pooled = no_text(self.pipeline, self.device)
        return Text(text[0].float().cpu(), pooled[0].float().cpu())

    def _encode(self, captions: Sequence[str]) -> list[Text]:
        import torch

        from curation.sdxl import embeddings

        if not self._of_pipeline:
            return self.wuerstchen.texts(captions)
        with torch.no_grad():
            text, pooled = embeddings(self.pipeline, captions, self.device)
            return [Text(*both) for both in zip(text.float().cpu(), pooled.float().cpu(), strict=True)]

    def close(self) -> None:
        """Let the models go."""
        self.vae = self.pipeline = None
        self.wuerstchen.close()
