"""Which models made what is stored: the key of the cache. The stage has it in its identity and its manifest; a trainer
asks the same of its own models and compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation.model_signature import model_signature
from curation.models import is_local

VAE = "vae"
TEXT_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")

Signatures = dict[str, Any]
"""By part: hashes of its files by name; or of a model on the hub its name, revision and variant."""


def part_signatures(
    setting: str, model: str, revision: str | None = None, variant: str | None = None, vae: str | None = None
) -> Signatures:
    """Signatures of the VAE, text encoders and tokenizers of the pipeline `model`, with another `vae` if given.

    Raises ConfigError naming `setting` where a local pipeline lacks one of them.
    """
    found: Signatures = {}
    for part in (VAE, *TEXT_PARTS):
        if part == VAE and vae is not None:
            files = model_signature(setting, vae)
            found[part] = {"model": vae} if files is None else files
        elif is_local(model):
            folder = Path(model).expanduser().absolute() / part
            found[part] = model_signature(setting, str(folder))
        else:
            found[part] = {"model": model, "revision": revision, "variant": variant}
    return found
