"""The same training on several processes: under torchrun, and on Ray Train, also when a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from curation.errors import ConfigError
from curation.load import load_train_config
from curation.train.metrics import read_metrics
from curation.train.run import train
from pipelines.train import train_on_ray
from tests.journey import curate_done
from tests.train.conftest import Make

STEPS = 6


@pytest.fixture(scope="module")
def alone(make: Make, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of one process."""
    folder = tmp_path_factory.mktemp("alone")
    train(make(folder, loop={"steps": STEPS, "log_every": 1}))
    return losses(folder)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder)]


def written(make: Make, folder: Path, **loop: int) -> Path:
    """A config file for a run in `folder`."""
    config = make(folder / "run", loop={"steps": STEPS, "log_every": 1, **loop})
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def test_two_processes_are_as_one_with_the_same_batch(make: Make, tmp_path: Path, alone: list[float]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "train_hook.py", str(written(make, tmp_path))], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model   ") == 1
    assert losses(tmp_path / "run") == pytest.approx(alone, rel=1e-5)


@pytest.mark.usefixtures("ray_engine")
def test_what_would_come_again_is_told_once_and_as_what_it_is(make: Make, tmp_path: Path) -> None:
    path = written(make, tmp_path)
    config = load_train_config(path, ["recipe.student.transformer_layers=[1,1,99]"])
    with pytest.raises(ConfigError, match="must be from 1 to the teacher's") as caught:
        train_on_ray(config, workers=2)
    assert caught.value.path == "recipe.student.transformer_layers"
    assert (tmp_path / "run").exists()
    assert not list((tmp_path / "run").glob("failed*"))


def test_a_training_on_nothing_starts_no_worker(make: Make, tmp_path: Path) -> None:
    code, _, err = curate_done("train", written(make, tmp_path), "--set", "data.corpora=[]", "--workers", "2")
    assert code == 2
    assert "data.corpora: names no corpus" in err


@pytest.mark.timeout(400)
def test_ray_train_ends_after_its_step_when_it_is_asked_to(make: Make, tmp_path: Path) -> None:
    """In a process of its own, which Ray Train would let end as it liked."""
    path = str(written(make, tmp_path, steps=100_000, checkpoint_every=100_000))
    command = [sys.executable, "-m", "pipelines.cli", "train", path, "--workers", "2"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 250
        while not read_metrics(tmp_path / "run"):
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline, "no step was made"
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        out, error = run.communicate(timeout=100)
    finally:
        run.kill()
    assert run.returncode == 130, error
    assert "stopping after this step" in out
    assert "curate train" in error, "how to go on"
    (checkpoint,) = (tmp_path / "run/checkpoints").iterdir()
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert (facts["status"], facts["steps"]) == ("stopped", int(checkpoint.name))
    assert not [*(tmp_path / "run").glob("stop*"), *(tmp_path / "run").glob("failed*")]


@pytest.mark.timeout(700)
def test_ray_train_goes_on_when_a_worker_is_killed(make: Make, tmp_path: Path, alone: list[float]) -> None:
    """In a process of its own, for it starts a cluster and kills a part of it."""
    command = [sys.executable, "-m", "pipelines.cli", "train", str(written(make, tmp_path, checkpoint_every=1))]
    run = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 400
        while not (tmp_path / "run/checkpoints").exists():
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.02)
        mine = psutil.Process(run.pid)
        workers = [p for p in mine.children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
        os.kill(workers[-1].pid, signal.SIGKILL)
        out, error = run.communicate(timeout=250)
    finally:
        run.kill()
    assert run.returncode == 0, error
    assert f"step {STEPS}/{STEPS}" in out
    assert losses(tmp_path / "run") == pytest.approx(alone, rel=1e-5)
