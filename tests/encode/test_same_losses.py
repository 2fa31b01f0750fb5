"""A training on the cache makes the losses of one on pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curation.config.koala import KoalaSettings
from curation.distill.koala import Koala
from curation.stream.loader import CorpusLoader
from curation.train.draws import Draws
from tests.encode.conftest import COUNT, stream
from tests.pack.make_bank import Packed


def losses(recipe: Koala, corpus: Path) -> dict[str, dict[str, float]]:
    """By key, each sample with the same noise and timestep in every corpus."""
    found = {}
    for batch in CorpusLoader(stream(corpus, captions={"dense": 1})):
        (key,) = batch["keys"]
        with torch.no_grad():
            prepared = recipe.prepare(batch, Draws(0, int(key[:6], 16), 0))
            found[key] = {name: value.item() for name, value in recipe.losses(recipe.model, prepared).items()}
    return found


def test_losses_are_those_of_pictures(packed: Packed, encoded: Path, sdxl_folder: Path) -> None:
    settings = {"kind": "koala", "teacher": {"model": str(sdxl_folder)}, "student": {"transformer_layers": [1, 1, 1]}}
    recipe = Koala(KoalaSettings.model_validate(settings), seed=0)
    recipe.to(torch.device("cpu"), torch.float32)
    pictures, cached = losses(recipe, packed.folder), losses(recipe, encoded)
    assert set(cached) == set(pictures)
    assert len(cached) == COUNT
    for key, wanted in pictures.items():
        assert set(wanted) == {"task", "output", "features.self_attention"}
        assert cached[key] == pytest.approx(wanted, rel=2e-3), key
