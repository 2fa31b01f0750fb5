"""Würstchen's models at work for `encoder.py`: pictures → semantic latents, captions → what its stages C and B read.

Constructed in the driver, like the encoder; a worker's `setup` loads the models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curation.config.encode import EncodeSettings
from curation.config.wuerstchen import PartSettings, TextSettings
from curation.encode.member import Text
from curation.encode.signatures import SEMANTIC, Signatures, compressor_signature, text_signatures
from curation.errors import ConfigError
from curation.hub import fetch_file
from curation.models import check_installed, check_weights, is_local
from curation.wuerstchen.sizes import steps_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SEMANTIC_SETTING, TEXT_SETTING = "stages.encode.semantic", "stages.encode.text"


class WuerstchenEncoder:
    """A semantic compressor and a text encoder, those of them that `settings` name."""

    def __init__(self, settings: EncodeSettings) -> None:
        self._compressor = settings.semantic
        self._text = settings.text

    def signatures(self) -> Signatures:
        """Of the models. Raises ConfigError where a local one is not there."""
        found: Signatures = {}
        if self._compressor is not None:
            found[SEMANTIC] = compressor_signature(SEMANTIC_SETTING, self._compressor)
        if self._text is not None:
            found |= text_signatures(TEXT_SETTING, self._text)
        return found

    def check(self, online: bool) -> None:
        """Refuse models that cannot be loaded, before any work; on the hub only if `online`. Raises ConfigError."""
        compressor, text = self._compressor, self._text
        if compressor is not None:
            check_installed(SEMANTIC_SETTING, "diffusers", "torch", "transformers", extra="train")
            if is_local(compressor.model) and compressor.file is None:
                check_weights(f"{SEMANTIC_SETTING}.model", _folder(compressor))
            if is_local(compressor.model) or online:
                self.steps()
                if not is_local(compressor.model) and compressor.file is not None:
                    _fetched(SEMANTIC_SETTING, compressor, compressor.file)
        if text is not None:
            _check_text(TEXT_SETTING, text, online)

    def steps(self) -> tuple[float, tuple[int, ...]]:
        """What `sizes.steps_of` says of the compressor; it is not loaded for that. Raises ConfigError."""
        given = self._compressor
        assert given is not None
        if given.file is not None:
            return steps_of({"trunk": given.backbone})
        setting = f"{SEMANTIC_SETTING}.model"
        path = _folder(given) / "config.json" if is_local(given.model) else _fetched(setting, given, "config.json")
        try:
            return steps_of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(setting, f"{given.model} is no semantic compressor: {error}") from None

    def setup(self, device: torch.device, dtype: torch.dtype) -> None:
        """Load the models. Raises ConfigError where they cannot be loaded as they are."""
        from curation.wuerstchen.compressor import load_compressor
        from curation.wuerstchen.parts import TextEncoder

        if self._compressor is not None:
            self.compressor = load_compressor(SEMANTIC_SETTING, self._compressor).to(device, dtype)
        if self._text is not None:
            self.text = TextEncoder.load(TEXT_SETTING, self._text)
            self.text.to(device, dtype)

    def semantic(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Semantic latents, float32 [B, C, h, w] on the CPU, of RGB pictures [H, W, 3] of one size."""
        import torch

        with torch.no_grad():
            pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
            found: Tensor = self.compressor(pixels).cpu()
            return found

    def texts(self, captions: Sequence[str]) -> list[Text]:
        """Last hidden states of each caption, float32 on the CPU; there is nothing pooled."""
        return [Text(text) for text in self.text(captions).float().cpu()]

    def close(self) -> None:
        """Let the models go."""
        self.compressor = self.text = None  # type: ignore[assignment]


def _check_text(setting: str, text: TextSettings, online: bool) -> None:
    check_installed(setting, "torch", "transformers")
    if is_local(text.model):
        check_weights(f"{setting}.model", _folder(text))
    elif online:
        _fetched(setting, text, "config.json")
    if text.beside is not None:
        _check_text(f"{setting}.beside", text.beside, online)


def _folder(given: PartSettings) -> Path:
    return Path(given.model).expanduser() / (given.subfolder or "")


def _fetched(setting: str, given: PartSettings, name: str) -> Path:
    inside = f"{given.subfolder}/{name}" if given.subfolder else name
    return fetch_file(setting, given.model, inside, given.revision)
