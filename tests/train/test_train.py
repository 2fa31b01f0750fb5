"""Whole trainings of a tiny student: what they leave, and that they go on to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file

from curation.errors import ConfigError
from curation.train.metrics import read_metrics
from curation.train.run import TrainResult, flops_per_sample, train
from curation.train.watcher import Watcher
from tests.train.conftest import Make


class Interrupt(BaseException):
    """What a killed run raises in these tests."""


class StopsAt(Watcher):
    """Ends a run after a step, with a checkpoint."""

    def __init__(self, step: int) -> None:
        self.at, self.now = step, 0

    def step(self, line: Mapping[str, Any]) -> None:
        self.now = line["step"]

    def stop(self) -> BaseException | None:
        return Interrupt() if self.now == self.at else None


class DiesAt(StopsAt):
    """Kills a run after a step, with no checkpoint."""

    def step(self, line: Mapping[str, Any]) -> None:
        if line["step"] == self.at:
            raise Interrupt


def course(folder: Path) -> list[tuple[int, float, dict[str, float]]]:
    """Steps and losses of a run."""
    return [(line["step"], line["loss"], line["losses"]) for line in read_metrics(folder)]


@pytest.fixture(scope="module")
def whole(make: Make, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run that nothing stopped."""
    return train(make(tmp_path_factory.mktemp("whole"), grids={"prompts": ["a star", "two stars"], "every": 4}))


def test_what_a_training_leaves(whole: TrainResult) -> None:
    folder = whole.model.parent
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert set(lines[0]["losses"]) == {"task", "output", "features.self_attention"}
    assert lines[0]["loss"] == pytest.approx(sum(lines[0]["losses"].values()), rel=1e-5)
    assert [line["lr"] for line in lines] == pytest.approx([5e-4] + [1e-3] * 7)
    assert {line["epoch"] for line in lines} == {0}
    assert whole.facts["samples"] == 32
    assert whole.facts["device_hours"] == pytest.approx(whole.facts["seconds"] / 3600)
    assert whole.facts["flops"] == 32 * whole.facts["flops_per_sample"] > 1e6
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["00000006", "00000008"]
    assert sorted(p.name for p in (folder / "grids").iterdir()) == ["00000004", "00000008", "of.json", "reference"]
    page = whole.report.read_text()
    assert page.count("data:image/png") == 6
    assert "two stars" in page
    assert any((folder / "tensorboard").iterdir())


def test_stock_diffusers_loads_and_samples_the_student(whole: TrainResult) -> None:
    assert not [p for p in whole.model.glob("*/config.json") if "_name_or_path" in p.read_text()]  # of this machine
    pipeline = StableDiffusionXLPipeline.from_pretrained(whole.model, dtype=torch.float32)
    assert pipeline.unet.config.mid_block_type is None
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
    average = load_file(whole.model.parent / "checkpoints/00000008/ema.safetensors")
    for name, tensor in pipeline.unet.state_dict().items():
        assert torch.equal(tensor.half(), average[name].half())
    image = pipeline("a star", num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np")
    assert image.images.shape == (1, 32, 32, 3)


def test_pictures_that_a_run_had_no_time_for_are_drawn_when_it_goes_on(make: Make, tmp_path: Path) -> None:
    config = make(tmp_path, grids={"prompts": ["a star"], "every": 3}, loop={"steps": 6, "checkpoint_every": 3})
    with pytest.raises(Interrupt):
        train(config, StopsAt(3))
    assert not (tmp_path / "grids/00000003").exists()
    train(config)
    assert (tmp_path / "grids/00000003/00.png").exists()


def test_pictures_that_were_half_drawn_are_drawn_again(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(tmp_path, grids={"prompts": ["a star", "two stars"], "every": 3}, loop={"steps": 3})
    plain, drawn = Image.Image.save, []

    def killed(image: Image.Image, path: Any, *given: Any, **options: Any) -> None:
        drawn.append(path)
        if len(drawn) == 4:  # the reference's two, then one of the student's
            raise KeyboardInterrupt
        plain(image, path, *given, **options)

    monkeypatch.setattr(Image.Image, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    train(config)
    for name in ("reference", "00000003"):
        assert [path.name for path in sorted((tmp_path / "grids" / name).iterdir())] == ["00.png", "01.png"]


def test_lines_are_the_same_where_a_run_stopped_between_two(make: Make, tmp_path: Path) -> None:
    loop = {"steps": 8, "log_every": 4, "checkpoint_every": 3}
    train(make(tmp_path / "whole", loop=loop))
    config = make(tmp_path / "stopped", loop=loop)
    with pytest.raises(Interrupt):
        train(config, DiesAt(8))  # the last checkpoint is of step 6
    train(config)
    assert course(tmp_path / "stopped") == course(tmp_path / "whole")
    assert [step for step, _, _ in course(tmp_path / "whole")] == [4, 8]


def test_flops_counted_beforehand_are_those_of_the_training(make: Make, tmp_path: Path) -> None:
    config = make(tmp_path, recipe={"caption_dropout": 1}, loop={"steps": 1}, optimizer={"warmup": 0}, ema=None)
    assert flops_per_sample(config) == train(config).facts["flops_per_sample"]


def test_devices_of_each_session_count_as_they_were(make: Make, tmp_path: Path) -> None:
    config = make(tmp_path)
    with pytest.raises(Interrupt):
        train(config, StopsAt(6))
    facts = tmp_path / "checkpoints/00000006/state.json"
    there = json.loads(facts.read_text())
    there |= {"seconds": 3600.0, "device_seconds": 8 * 3600.0}  # as eight would have left it
    facts.write_text(json.dumps(there))
    assert 8 < train(config).facts["device_hours"] < 8.5


def test_a_finished_training_is_not_done_again(whole: TrainResult, make: Make) -> None:
    config = make(whole.model.parent, grids={"prompts": ["a star", "two stars"], "every": 4})
    assert train(config, DiesAt(1)).facts == whole.facts


@pytest.mark.parametrize("watcher", [StopsAt(4), DiesAt(5)])
def test_a_run_that_goes_on_is_as_if_it_had_not_stopped(
    whole: TrainResult, make: Make, tmp_path: Path, watcher: Watcher
) -> None:
    config = make(tmp_path)
    with pytest.raises(Interrupt):
        train(config, watcher)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"
    train(config)
    assert course(tmp_path) == course(whole.model.parent)
    for name in ("model", "ema"):
        mine, other = (
            load_file(folder / "checkpoints/00000008" / f"{name}.safetensors")
            for folder in (tmp_path, whole.model.parent)
        )
        assert all(torch.equal(mine[key], other[key]) for key in other)


def test_more_steps_go_on_from_the_last(whole: TrainResult, make: Make, tmp_path: Path) -> None:
    train(make(tmp_path, loop={"steps": 4, "log_every": 1}))
    train(make(tmp_path))
    assert course(tmp_path) == course(whole.model.parent)


def test_pictures_of_other_prompts_do_not_stay(make: Make, tmp_path: Path) -> None:
    train(make(tmp_path, loop={"steps": 2, "log_every": 1}, grids={"prompts": ["a star", "two stars"], "every": 1}))
    before = (tmp_path / "grids/reference/00.png").read_bytes()
    train(make(tmp_path, loop={"steps": 3, "log_every": 1}, grids={"prompts": ["a blue square"], "every": 1}))
    drawn = sorted(str(path.relative_to(tmp_path / "grids")) for path in (tmp_path / "grids").glob("*/*.png"))
    # Of the step that it goes on from too, which has not been drawn with these prompts.
    assert drawn == ["00000002/00.png", "00000003/00.png", "reference/00.png"]
    assert (tmp_path / "grids/reference/00.png").read_bytes() != before


def test_parts_of_a_step_add_up(make: Make, tmp_path: Path) -> None:
    """Two batches of 4 make a step: its loss is the mean of theirs, and the optimiser moves once."""
    config = make(tmp_path, loop={"steps": 2, "accumulate": 2, "log_every": 1}, optimizer={"lr": 1e-12, "warmup": 0})
    train(config)
    single = make(tmp_path / "single", loop={"steps": 4, "log_every": 1}, optimizer={"lr": 1e-12, "warmup": 0})
    train(single)
    losses = [loss for _, loss, _ in course(tmp_path / "single")]
    assert [loss for _, loss, _ in course(tmp_path)] == pytest.approx(
        [(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2], rel=1e-5
    )
    assert train(config).facts["samples"] == 16


def test_a_student_without_inheritance_begins_elsewhere(make: Make, whole: TrainResult, tmp_path: Path) -> None:
    config = make(tmp_path)
    recipe = config.recipe.model_copy(update={"student": config.recipe.student.model_copy(update={"inherit": False})})
    train(config.model_copy(update={"recipe": recipe}))
    assert course(tmp_path)[0][1] != course(whole.model.parent)[0][1]


def test_in_bf16_with_checkpointed_activations(make: Make, whole: TrainResult, tmp_path: Path) -> None:
    loop = {"steps": 2, "log_every": 1, "precision": "bf16", "gradient_checkpointing": True}
    train(make(tmp_path, loop=loop))
    for (_, loss, _), (_, other, _) in zip(course(tmp_path), course(whole.model.parent)[:2], strict=True):
        assert loss == pytest.approx(other, rel=0.02)


# -- what stops it ---------------------------------------------------------------------------------------------------


def test_another_training_in_the_same_folder_is_refused(whole: TrainResult, make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole.model.parent, folder)
    with pytest.raises(ConfigError, match=r"optimizer\.lr: 0\.001 there, 0\.01 here; seed: 0 there, 3 here"):
        train(make(folder, seed=3, optimizer={"lr": 1e-2, "warmup": 2}))
    with pytest.raises(ConfigError, match=r"loop\.steps: 5 are fewer than the 8 done"):
        train(make(folder, loop={"steps": 5}))
