"""What ends a training, and what is refused before or after one."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel

from curation.config.train import TrainConfig
from curation.distill.koala import Koala
from curation.errors import ConfigError, CorruptionError, RunError, StorageError
from curation.train import run
from curation.train.metrics import read_metrics
from curation.train.run import train
from tests.train.conftest import Make


def test_what_was_learnt_of_a_teacher_that_is_another_now_is_refused(
    make: Make, sdxl_folder: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(sdxl_folder, teacher)
    config = make(tmp_path / "run", recipe={"teacher": {"model": str(teacher)}}, loop={"steps": 2})
    done = train(config)
    assert train(config).facts == done.facts
    weights = teacher / "unet/diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ConfigError, match=r"output: .*trained again since"):
        train(config)
    shutil.rmtree(teacher)
    assert train(config).facts == done.facts, "nobody can tell"


def test_fp16_is_for_gpus(make: Make, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match=r"loop\.precision: fp16 needs a GPU"):
        train(make(tmp_path, loop={"precision": "fp16"}))
    train(make(tmp_path, loop={"steps": 2}))  # nothing of it stays in this process


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_stops_the_run_before_it_is_taken(
    clip: float | None, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Koala.losses

    def broken(self: Koala, model: torch.nn.Module, prepared: Any) -> dict[str, torch.Tensor]:
        losses = plain(self, model, prepared)
        losses["task"].register_hook(lambda gradient: gradient * float("inf"))
        return losses

    monkeypatch.setattr(Koala, "losses", broken)
    config = make(tmp_path, optimizer={"clip": clip})
    with pytest.raises(RunError, match=r"the gradient is .* at step 1; the keys of the batch: [0-9a-f]{32}"):
        train(config)
    assert not (tmp_path / "checkpoints").exists()


def broken_gradients(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The first `steps` steps of a training in fp16, as a CPU can do it, have gradients that are no numbers."""
    plain_losses, plain_accelerator, calls = Koala.losses, run._accelerator, itertools.count()

    def losses(self: Koala, model: torch.nn.Module, prepared: Any) -> dict[str, torch.Tensor]:
        found = plain_losses(self, model, prepared)
        if isinstance(model, UNet2DConditionModel) and 1 <= next(calls) <= steps:  # the first pass counts FLOPs
            found["task"].register_hook(lambda gradient: gradient * float("nan"))
        return found

    def accelerator(config: TrainConfig) -> Accelerator:
        made = plain_accelerator(config)
        made.scaler = torch.amp.GradScaler("cpu")
        return made

    monkeypatch.setattr(Koala, "losses", losses)
    monkeypatch.setattr(run, "_accelerator", accelerator)


def test_fp16_that_does_not_recover_ends_the_run(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_gradients(monkeypatch, 30)
    config = make(tmp_path, loop={"steps": 30, "checkpoint_every": 30}, ema=None)
    with pytest.raises(RunError, match=r"the gradient is nan at step 18; the keys"):
        train(config)
    lines = read_metrics(tmp_path)
    assert [line["scale"] for line in lines] == [2.0 ** (15 - i) for i in range(17)]
    assert {line["grad_norm"] for line in lines} == {None}
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_fp16_that_recovers_goes_on(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_gradients(monkeypatch, 3)
    train(make(tmp_path, loop={"steps": 6}))
    assert [line["grad_norm"] is not None for line in read_metrics(tmp_path)] == [False] * 3 + [True] * 3


def test_what_was_learnt_of_a_corpus_that_is_another_now_is_refused(make: Make, corpus: Path, tmp_path: Path) -> None:
    mine = tmp_path / "corpus"
    shutil.copytree(corpus, mine)
    config = make(tmp_path / "run", data={"corpora": [{"path": str(mine)}]}, loop={"steps": 15})
    done = train(config)
    assert done.facts["epochs"] == 1  # 60 pictures, 4 at a time
    manifest = mine / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(ConfigError, match=r"output: .* of a corpus that is another now"):
        train(config)
    shutil.rmtree(mine)
    assert train(config).facts == done.facts, "nobody can tell"


def test_pictures_of_another_size_than_those_that_are_sampled_are_told(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(make(tmp_path / "same", loop={"steps": 1}, optimizer={"warmup": 0}))
    assert "sampled at" not in caplog.text
    train(make(tmp_path / "small", loop={"steps": 1}, optimizer={"warmup": 0}, data={"resolution": 16}))
    assert "sampled at 32 × 32, as its teacher is" in caplog.text


def test_a_loss_that_is_no_number_names_step_and_keys(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_losses = Koala.losses

    def losses(self: Koala, model: torch.nn.Module, prepared: Any) -> dict[str, torch.Tensor]:
        found = true_losses(self, model, prepared)
        return {**found, "task": found["task"] * float("nan")}

    monkeypatch.setattr(Koala, "losses", losses)
    with pytest.raises(RunError, match=r"the loss is nan at step 1; task nan, .* keys of the batch: [0-9a-f]{32}"):
        train(make(tmp_path))
    assert "the loss is nan" in (tmp_path / "report.html").read_text()


def test_a_full_disk_is_one_clear_error(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("curation.train.checkpoint.save_file", full)
    with pytest.raises(StorageError, match="no space left on the device"):
        train(make(tmp_path))


def test_a_damaged_corpus_is_named(make: Make, corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    shard = sorted((copy / "shards").glob("*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[700:900] = np.random.default_rng(0).bytes(200)
    shard.write_bytes(data)
    config = make(tmp_path / "run", loop={"steps": 30})
    damaged = config.data.model_copy(
        update={"corpora": (config.data.corpora[0].model_copy(update={"path": str(copy)}),)}
    )
    with pytest.raises(CorruptionError, match=r"00000\.tar"):
        train(config.model_copy(update={"data": damaged}))


def test_what_is_not_there(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.corpora: names no corpus: give --corpus DIR"):
        train(make(tmp_path, data={"corpora": []}))
    config = make(tmp_path)
    teacher = config.recipe.teacher.model_copy(update={"model": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.model: no folder"):
        train(config.model_copy(update={"recipe": config.recipe.model_copy(update={"teacher": teacher})}))
