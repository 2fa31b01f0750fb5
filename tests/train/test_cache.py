"""Trainings on a corpus that the stage `encode` made, which only the models that encoded it may lean on.

That its losses are those of pictures, sample by sample, is tested in tests/encode/test_same_losses.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import ConfigError
from curation.train.metrics import read_metrics
from curation.train.run import train
from tests.tiny_sdxl import tiny_sdxl
from tests.train.conftest import Make


def test_a_training_without_pictures(make: Make, encoded: Path, tmp_path: Path) -> None:
    captions = {"dense": 0.7, "empty": 0.3}
    data = {"corpora": [{"path": str(encoded)}], "resolution": None, "captions": captions}
    train(make(tmp_path, data=data))
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(1, 9))


def test_only_the_models_that_encoded_a_corpus_take_it(make: Make, encoded: Path, tmp_path: Path) -> None:
    other = tiny_sdxl(tmp_path / "other", prediction="v_prediction")  # the same VAE and text encoders
    recipe = {"kind": "koala", "teacher": {"model": str(other)}, "student": {"layers_per_block": 1}}
    data = {"corpora": [{"path": str(encoded)}], "resolution": None, "captions": {"dense": 1}}
    train(make(tmp_path / "v", recipe=recipe, data=data, loop={"steps": 2}))
    config = other / "vae/config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 0.13025', '"scaling_factor": 0.2'))
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.model: the corpus was encoded by other models: vae; enco"):
        train(make(tmp_path / "w", recipe=recipe, data=data, loop={"steps": 2}))
