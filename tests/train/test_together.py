"""What one rank meets, all ranks hear of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate import Accelerator

from curation.errors import CorruptionError
from curation.train.together import agreed, raise_together


def test_ranks_tell_one_another_what_they_met(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, "-m", "tests.train.ranks", tmp_path], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == {
        "nothing": "",
        "damage": "RunError: rank 1: sample 7 is damaged",
        "away": "StorageError: rank 1: the bucket is away",
        "both": "CorruptionError: sample 3 is damaged",
        "wish": "Stopped: by SIGTERM",
        "no wish": "None",
    }
    assert second == first | {
        "damage": "CorruptionError: sample 7 is damaged",
        "away": "StorageError: the bucket is away",
        "both": "StorageError: the bucket is away",
    }


def test_a_rank_alone_raises_its_own() -> None:
    accelerator = Accelerator(cpu=True)
    raise_together(accelerator, None)
    with pytest.raises(CorruptionError, match=r"^damaged$"):
        raise_together(accelerator, CorruptionError("damaged"))
    wish = KeyboardInterrupt()
    assert agreed(accelerator, wish) is wish
    assert agreed(accelerator, None) is None
