"""What the decoder tests ask of processes: is it there, is it at work, whose child is it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def running(pid: int | None) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def wait_until_at_work(pid: int) -> None:
    """Wait for a process to compute for a tenth of a second from now on: the end of a small image takes less."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    wait_for(lambda: ticks() - before >= os.sysconf("SC_CLK_TCK") // 10)
