"""Two runs in one output folder: the second is refused, and a killed one leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from curation.errors import StorageError
from curation.lock import alone
from tests.journey import ROOT

HOLD = """
import os, sys, time
from curation.lock import alone
with alone(sys.argv[1]):
    if os.fork() == 0:  # as the workers of a loader are
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """By another process, with a child."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        told = rf"process {process.pid} on .* works in .*choose another"
        (tmp_path / "link").symlink_to(tmp_path)
        for name in (str(tmp_path), f"{tmp_path}/link", f"file://{tmp_path}"):
            with pytest.raises(StorageError, match=told), alone(name):
                pass
        process.kill()
        process.wait()
        with alone(str(tmp_path)):  # though its child still lives
            pass


def test_one_process_may_hold_it_twice(tmp_path: Path) -> None:
    with alone(str(tmp_path / "new")), alone(f"{tmp_path}/x/../new"), alone("s3://bucket/run"):
        assert (tmp_path / "new" / ".lock").read_text().startswith(f"process {os.getpid()} ")


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/out"), alone(str(tmp_path / "file" / "out")):
        pass
