"""Frozen parts of Würstchen from a folder or the hub: any model of diffusers, and CLIP's text encoder.

Each is loaded from safetensors alone, on the CPU in float32, in eval mode, and says by its setting what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from curation.config.wuerstchen import PartSettings, TextLayer, TextSettings
from curation.errors import ConfigError, CorruptionError, StorageError
from curation.hub import load_fault
from curation.models import check_whole, is_local
from curation.text import one_line
from curation.train.draws import Draws
from curation.train.recipe import TorchBatch


def load_part(setting: str, given: PartSettings, cls: Any) -> Any:
    """A model of diffusers' class `cls`. Raises ConfigError naming `setting`."""
    where, inside = _place(setting, given)
    try:
        named = cls.load_config(where, **inside).get("_class_name")
    except (OSError, ValueError) as error:
        raise _fault(setting, where, cls, error) from None
    if named != cls.__name__:  # diffusers would make one all the same, of whatever weights fit
        raise ConfigError(f"{setting}.model", f"{where} is a {named}, not a {cls.__name__}")
    return _loaded(setting, given, cls, {"torch_dtype": torch.float32, "use_safetensors": True})


def parameters(model: nn.Module) -> int:
    """How many numbers a model has."""
    return sum(p.numel() for p in model.parameters())


BESIDE = "beside"
"""Folder of a second text encoder below the first one's."""


class TextEncoder:
    """CLIP's text encoder and its tokenizer; the hidden states of `layer` are the condition of stages C and B, with
    those of the encoder `beside` it, of as many tokens, if there is one."""

    def __init__(
        self,
        model: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        layer: TextLayer = "last",
        beside: TextEncoder | None = None,
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.layer, self.beside = tokenizer, layer, beside
        self.tokens = min(int(tokenizer.model_max_length), int(model.config.max_position_embeddings))
        """Tokens of a caption; what is longer is cut off."""
        self._empty: Tensor | None = None

    @classmethod
    def load(cls, setting: str, given: TextSettings) -> TextEncoder:
        """From a folder or the hub. Raises ConfigError naming `setting`."""
        model = _loaded(setting, given, CLIPTextModel, {"dtype": torch.float32, "use_safetensors": True})
        words = given if given.tokenizer is None else given.model_copy(update={"subfolder": given.tokenizer})
        beside = cls.load(f"{setting}.beside", given.beside) if given.beside is not None else None
        found = cls(model, _loaded(setting, words, CLIPTokenizer, {}), given.layer, beside)
        if beside is not None and beside.tokens != found.tokens:
            raise ConfigError(f"{setting}.beside", f"takes {beside.tokens} tokens, the first encoder {found.tokens}")
        return found

    @property
    def width(self) -> int:
        """Channels of the condition."""
        return int(self.model.config.hidden_size) + (self.beside.width if self.beside is not None else 0)

    @property
    def parameters(self) -> int:
        """How many numbers there are, of both encoders."""
        return parameters(self.model) + (self.beside.parameters if self.beside is not None else 0)

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Tensor:
        """[B, tokens, width], in the encoder's dtype and on its device; padded, as the authors have it."""
        found = self.tokenizer(
            list(captions), padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        inner = self.layer == "penultimate"
        output = self.model(found.input_ids, attention_mask=found.attention_mask, output_hidden_states=inner)
        states: Tensor = output.hidden_states[-2] if inner else output.last_hidden_state
        return states if self.beside is None else torch.cat([states, self.beside(captions)], 2)

    def empty(self) -> Tensor:
        """The condition of no caption, "": [1, tokens, width]. It is made once."""
        if self._empty is None:
            self._empty = self([""])
        return self._empty

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.model.to(device, dtype)
        if self.beside is not None:
            self.beside.to(device, dtype)
        self._empty = None

    def save(self, folder: Path) -> None:
        """Model and tokenizer in one folder, a second encoder's in one below it."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.beside is not None:
            self.beside.save(folder / BESIDE)


def texts_of(batch: TorchBatch, encoder: TextEncoder, draws: Draws, dropout: float) -> Tensor:
    """The condition of a batch, [B, T, D] in the encoder's dtype: from the corpus's cache (`batch["text"]`) where it is
    there, else of the captions; that of "" in place of a share `dropout`. Raises CorruptionError where the cache does
    not fit."""
    captions = batch["captions"]
    out = draws.uniform("caption", len(captions)) < dropout
    if "text" not in batch:
        return encoder(["" if gone else caption for caption, gone in zip(captions, out.tolist(), strict=True)])
    cached: Tensor = batch["text"]
    if tuple(cached.shape[1:]) != (encoder.tokens, encoder.width):
        shape = list(cached.shape[1:])
        raise CorruptionError(f"the corpus's embeddings are {shape}, not {[encoder.tokens, encoder.width]}")
    empty = encoder.empty()
    return torch.where(out.to(empty.device)[:, None, None], empty, cached.to(empty.device, empty.dtype))


def _loaded(setting: str, given: PartSettings, cls: Any, options: dict[str, Any]) -> Any:
    where, inside = _place(setting, given)
    is_model = issubclass(cls, nn.Module)
    try:
        made = cls.from_pretrained(where, **inside, **options, **({"output_loading_info": True} if is_model else {}))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise _fault(setting, where, cls, error) from None
    if not is_model:
        return made
    model, told = made
    check_whole(f"{setting}.model", where, told)
    return model.requires_grad_(False).eval()


def _place(setting: str, given: PartSettings) -> tuple[str, dict[str, str]]:
    """What `from_pretrained` takes: a folder, or a name on the hub and what is wanted of it. Raises ConfigError."""
    if not is_local(given.model):
        inside = {"revision": given.revision or "main"}
        return given.model, inside | ({"subfolder": given.subfolder} if given.subfolder is not None else {})
    folder = Path(given.model).expanduser() / (given.subfolder or "")
    if not folder.is_dir():
        raise ConfigError(f"{setting}.model", f"no folder {folder}")
    return str(folder), {}


def _fault(setting: str, where: str, cls: Any, error: Exception) -> ConfigError | StorageError:
    problem = f"{where} cannot be loaded as a {cls.__name__}: {one_line(error, 300)}"
    return load_fault(f"{setting}.model", problem, error)
