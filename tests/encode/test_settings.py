"""Settings of the stage: what is stored follows from which models are named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from curation.config import EncodeSettings

TEXT = {"model": "warp-ai/wuerstchen-prior", "subfolder": "text_encoder", "tokenizer": "tokenizer"}


@pytest.mark.parametrize(
    ("given", "latents", "texts"),
    [
        ({"model": "sdxl"}, True, ("primary",)),
        ({"model": "sdxl", "semantic": "compressor"}, True, ("primary",)),
        ({"semantic": "compressor"}, False, ()),
        ({"semantic": "compressor", "text": TEXT}, False, ("primary",)),
        ({"semantic": "compressor", "text": TEXT, "texts": ["dense"]}, False, ("dense",)),
        ({"text": TEXT, "images": True}, False, ("primary",)),
    ],
)
def test_what_is_stored(given: dict[str, Any], latents: bool, texts: tuple[str, ...]) -> None:
    found = EncodeSettings.model_validate(given)
    assert (found.latents, found.texts) == (latents, texts)
    assert EncodeSettings.model_validate(found.model_dump()) == found


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "nothing to encode: name `model` or `semantic`"),
        ({"semantic": "compressor", "latents": True}, "`latents` need `model`"),
        ({"semantic": "compressor", "vae": "vae"}, "`latents` need `model`"),
        ({"semantic": "compressor", "texts": ["dense"]}, "`texts` need `model` or `text`"),
        ({"semantic": "compressor", "text": TEXT, "texts": []}, "`texts` names nothing"),
        ({"text": TEXT}, "set `images`"),
    ],
)
def test_what_cannot_be_stored_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        EncodeSettings.model_validate(given)
