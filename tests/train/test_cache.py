"""Trainings on a corpus that the stage `encode` made: as on its pictures, and only with the models that encoded it."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import ConfigError
from curation.train.metrics import read_metrics
from curation.train.run import train
from tests.encode.conftest import encode, finish, make_packed
from tests.tiny_sdxl import tiny_sdxl
from tests.train.conftest import Make


def test_a_training_on_the_cache_makes_the_losses_of_one_on_pictures(
    make: Make, sdxl_folder: Path, tmp_path: Path
) -> None:
    packed = make_packed(tmp_path / "packed")
    encoded = finish(encode(packed, sdxl_folder))
    losses = {}
    for corpus in (packed.folder, encoded):
        data = {"corpora": [{"path": str(corpus)}], "resolution": None, "captions": {"dense": 0.7, "empty": 0.3}}
        output = tmp_path / corpus.name
        train(make(output, data=data, loop={"steps": 4, "log_every": 1}))
        losses[corpus] = [line["loss"] for line in read_metrics(output)]
    assert losses[encoded] == pytest.approx(losses[packed.folder], rel=5e-3)
    other = tiny_sdxl(tmp_path / "other", prediction="v_prediction")
    same_but_for_its_scheduler = {"kind": "koala", "teacher": {"model": str(other)}, "student": {"layers_per_block": 1}}
    data = {"corpora": [{"path": str(encoded)}], "resolution": None}
    train(make(tmp_path / "v", recipe=same_but_for_its_scheduler, data=data, loop={"steps": 1}))
    config = other / "vae/config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 0.13025', '"scaling_factor": 0.2'))
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.model: the corpus was encoded by other models: vae; enco"):
        train(make(tmp_path / "w", recipe=same_but_for_its_scheduler, data=data, loop={"steps": 1}))
