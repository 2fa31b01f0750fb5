"""Which models made what is stored: the key of the cache. The stage has it in its identity and its manifest; a trainer
asks the same of its own models and compares. Checkpoints and ablations tell by it whether a teacher is still the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation.config.koala import TeacherSettings
from curation.config.wuerstchen import CompressorSettings, PartSettings, TextSettings
from curation.model_signature import file_signature, model_signature
from curation.models import is_local

UNET, VAE = "unet", "vae"
SEMANTIC = "semantic"
"""A semantic compressor."""
TEXT_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
PLAIN_TEXT_PARTS = ("text", "text_tokenizer")
"""Of one text encoder by itself, as Würstchen's."""

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


def teacher_signature(setting: str, given: TeacherSettings) -> Signatures:
    """Signatures of all that a teacher's answers depend on: its U-Net, from a file of its own where `given` names one,
    and the rest of its pipeline. Raises ConfigError naming `setting` where a local part is missing."""
    found = part_signatures(f"{setting}.model", given.model, given.revision, given.variant, given.vae)
    if given.unet is None:
        unet = PartSettings(model=given.model, revision=given.revision, subfolder=UNET)
        found[UNET] = part_signature(f"{setting}.model", unet)
    elif Path(given.unet).expanduser().is_file():
        found[UNET] = file_signature(f"{setting}.unet", given.unet)
    else:
        found[UNET] = {"file": given.unet}
    return found


def part_signature(setting: str, given: PartSettings) -> dict[str, Any]:
    """What names a part of a Würstchen: hashes of its files, or its name and revision on the hub. Raises ConfigError
    naming `setting`."""
    if not is_local(given.model):
        return {"model": given.model, "revision": given.revision, "subfolder": given.subfolder}
    folder = Path(given.model).expanduser() / (given.subfolder or "")
    return dict(model_signature(setting, str(folder)) or {})


def compressor_signature(setting: str, given: CompressorSettings) -> dict[str, Any]:
    """The same of a semantic compressor. Its `scale` and `shift` do not count: latents are stored without them."""
    if given.file is None:
        return part_signature(setting, given)
    named = {"file": given.file, "backbone": given.backbone}
    if not is_local(given.model):
        return part_signature(setting, given) | named
    path = Path(given.model).expanduser() / (given.subfolder or "") / given.file
    return {"file": file_signature(f"{setting}.file", str(path)), "backbone": given.backbone}


def text_signatures(setting: str, given: TextSettings) -> Signatures:
    """Of one text encoder, with the layer that is read and what is read beside it, and its tokenizer, by
    `PLAIN_TEXT_PARTS`. Raises ConfigError naming `setting`."""
    words = given if given.tokenizer is None else given.model_copy(update={"subfolder": given.tokenizer})
    found = dict(zip(PLAIN_TEXT_PARTS, (part_signature(setting, part) for part in (given, words)), strict=True))
    if given.layer != "last":
        found[PLAIN_TEXT_PARTS[0]] |= {"layer": given.layer}
    if given.beside is not None:
        found[PLAIN_TEXT_PARTS[0]] |= {"beside": text_signatures(f"{setting}.beside", given.beside)}
    return found
