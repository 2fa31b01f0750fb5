"""Würstchen's stages through the loop of all recipes: stopped and gone on with, the losses are an unbroken run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from curation.config.train import TrainConfig
from curation.config.wuerstchen import StageBSettings, StageCSettings
from curation.errors import RunError
from curation.train.run import train
from curation.train.watcher import Watcher
from curation.wuerstchen.cascade import load_wuerstchen
from tests.stream.conftest import make_corpus
from tests.wuerstchen.conftest import SIDE


class StopsAt(Watcher):
    def __init__(self, step: int) -> None:
        self._step, self._at = 0, step

    def step(self, line: Any) -> None:
        self._step = line["step"]

    def stop(self) -> BaseException | None:
        return RunError("enough") if self._step == self._at else None


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), 60)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", ["c", "b", "b with its compressor"])
def test_a_run_that_was_stopped_goes_on_to_the_same_losses(
    stage: str, stage_c: StageCSettings, stage_b: StageBSettings, corpus: Path, tmp_path: Path
) -> None:
    recipe = (stage_c if stage == "c" else stage_b).model_dump()
    if stage == "c":
        recipe["prior"]["dropout"] = 0.1  # what torch draws by itself goes on as well
    else:
        recipe["train_compressor"] = stage != "b"

    def config(output: Path) -> TrainConfig:
        return TrainConfig.model_validate(
            {
                "name": "tiny",
                "output": str(output),
                "recipe": recipe,
                "data": {"corpora": [{"path": str(corpus)}], "batch": 4, "resolution": SIDE, "captions": {"dense": 1}},
                "optimizer": {"lr": 1e-3, "warmup": 2},
                "loop": {"steps": 6, "log_every": 1, "checkpoint_every": 3},
                "grids": {"prompts": ["a red star"], "every": 6},
            }
        )

    whole = train(config(tmp_path / "whole"))
    with pytest.raises(RunError, match="enough"):
        train(config(tmp_path / "broken"), StopsAt(4))
    gone_on = train(config(tmp_path / "broken"))
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    images = [load_wuerstchen(result.model).sample(["a red star"], [0])[0].tobytes() for result in (whole, gone_on)]
    assert images[0] == images[1]
    assert whole.facts["flops_per_sample"] > 0
    weights = load_file(tmp_path / "whole/checkpoints/00000006/model.safetensors")
    passes = [int(value) for name, value in weights.items() if name.endswith("num_batches_tracked")]
    assert passes == ([6] if stage == "b with its compressor" else [0] * len(passes)), "counting FLOPs is no step"
    page = whole.report.read_text(encoding="utf-8")
    assert page.count("data:image/png") == 1
    assert "a red star" in page
