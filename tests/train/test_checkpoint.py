"""Checkpoints are whole or not there, and hold what was put in."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from curation.errors import CorruptionError, StorageError
from curation.train.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint


def made(step: int, size: int = 3) -> Checkpoint:
    layer = torch.nn.Linear(size, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, size)).sum().backward()
    optimizer.step()
    states = {"optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
    return Checkpoint(
        step, {"student": layer.state_dict(), "ema": layer.state_dict()}, states, {"stream": {"epoch": 1}}
    )


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    wanted = made(7)
    found = load_checkpoint(save_checkpoint(tmp_path / "checkpoints", wanted, keep=2))
    assert (found.step, found.facts) == (7, {"stream": {"epoch": 1}})
    assert found.weights.keys() == {"student", "ema"}
    assert found.weights["student"]["weight"].equal(wanted.weights["student"]["weight"])
    assert found.states["random"].equal(wanted.states["random"])
    state = found.states["optimizer"]["state"][0]
    assert state["exp_avg"].equal(wanted.states["optimizer"]["state"][0]["exp_avg"])


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "none") is None
    for step in (5, 10, 15, 10):
        save_checkpoint(tmp_path, made(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000010", "00000015"]
    assert latest_checkpoint(tmp_path) == tmp_path / "00000015"


WRITE = """
import sys, torch
from pathlib import Path
from curation.train.checkpoint import Checkpoint, save_checkpoint
folder = Path(sys.argv[1])
for step in range(1, 10_000):
    weights = {"student": {"weight": torch.full((400_000,), float(step))}}
    save_checkpoint(folder, Checkpoint(step, weights, {"step": torch.tensor(step)}, {}), keep=2)
    print(step, flush=True)
"""


def test_kill_9_while_writing_leaves_the_one_before(tmp_path: Path) -> None:
    for turn in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            written = [int(child.stdout.readline()) for _ in range(3)]
            time.sleep(0.003 * turn)
            os.kill(child.pid, signal.SIGKILL)
        latest = latest_checkpoint(tmp_path)
        assert latest is not None
        found = load_checkpoint(latest)
        assert found.step >= written[-1] or turn
        assert found.weights["student"]["weight"].eq(found.step).all()
        assert found.states["step"] == found.step
    save_checkpoint(tmp_path, made(20_000), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["00020000"], "what was left half-written is gone"


def test_a_full_disk_is_one_clear_error_and_leaves_the_one_before(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("needs to mount a small file system")
    try:
        save_checkpoint(disk, made(1), keep=2)
        with pytest.raises(StorageError, match="no space left on the device while writing"):
            save_checkpoint(disk, made(2, size=200_000), keep=2)
        assert [path.name for path in disk.iterdir()] == ["00000001"]
        assert load_checkpoint(disk / "00000001").step == 1
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("name", ["student.safetensors", "state.pt", "state.json"])
def test_damage_names_the_file(tmp_path: Path, name: str) -> None:
    path = save_checkpoint(tmp_path, made(1), keep=1)
    (path / name).write_bytes((path / name).read_bytes()[:20])
    with pytest.raises(CorruptionError, match=name):
        load_checkpoint(path)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._path,)


def test_nothing_in_a_checkpoint_runs(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, made(1), keep=1)
    (path / "state.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(CorruptionError, match=r"state\.pt"):
        load_checkpoint(path)
    torch.save({"a": Trap(tmp_path / "sprung")}, path / "state.pt")
    with pytest.raises(CorruptionError, match=r"state\.pt"):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()
