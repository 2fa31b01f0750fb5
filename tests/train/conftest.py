"""A tiny teacher and a tiny corpus, and trainings on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.config.train import TrainConfig
from tests.encode.conftest import encoded, packed
from tests.stream.conftest import make_corpus

__all__ = ["encoded", "packed"]  # fixtures of the stage `encode`, used here as well

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), 60)


@pytest.fixture(scope="session")
def make(corpus: Path, sdxl_folder: Path) -> Make:
    """Makes a config for `output`; keywords are sections of it that are merged into the defaults."""

    def make(output: Path, **given: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "name": "tiny",
            "output": str(output),
            "recipe": {
                "kind": "koala",
                "teacher": {"model": str(sdxl_folder), "sampling": {"steps": 2, "guidance": 2}},
                "student": {"transformer_layers": [1, 1, 1], "mid_block": False},
                "caption_dropout": 0.2,
            },
            "data": {"corpora": [{"path": str(corpus)}], "batch": 4, "resolution": 32, "captions": {"dense": 1}},
            "optimizer": {"lr": 1e-3, "warmup": 2},
            "loop": {"steps": 8, "log_every": 1, "checkpoint_every": 3},
        }
        for section, values in given.items():
            settings[section] = {**settings.get(section, {}), **values} if isinstance(values, dict) else values
        return TrainConfig.model_validate(settings)

    return make
