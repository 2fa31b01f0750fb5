"""Runs a command and measures its whole process tree: CPU, wall clock, memory.

    python -m benchmarks.watch RESULT.json COMMAND [ARGUMENT …]

`measure.run_command` starts this in a process of its own. It becomes the reaper of every descendant that loses its
parent (Linux's PR_SET_CHILD_SUBREAPER), so daemons count too, and no control group is needed. CPU seconds come from
`wait4`, which reports what a process and the children that it waited for have used, or from the last samples of /proc,
where that is more because some parent never waits. Peak memory is sampled: what ends between two samples is missed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.2
MEMORY_EVERY = 10
"""Shares of memory are read in every so many samples: adding them up costs the kernel CPU that is being measured."""
GRACE_S = 20.0
"""Seconds that descendants may go on after the command itself has ended; then they are killed."""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """One process of the tree at its last sample."""

    name: str
    cpu: float = 0.0
    """Seconds, its own threads only."""
    rss: int = 0
    """Peak, in bytes: VmHWM."""
    now: int = 0
    """Proportional share of memory at the last sample, in bytes: pages shared by n processes count 1/n each."""


class Watch:
    """The tree below this process."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
        self.seen: dict[tuple[int, int], Seen] = {}
        self.waited_cpu = 0.0
        self.peak = 0
        self.samples = 0

    def sample(self) -> None:
        """Look at all descendants once."""
        with_memory = self.samples % MEMORY_EVERY == 0
        self.samples += 1
        alive = _descendants(os.getpid())
        for key, cpu in alive.items():
            process = self.seen.setdefault(key, Seen(""))
            process.cpu = cpu
            _look(key[0], process, with_memory)
        if with_memory:
            self.peak = max(self.peak, sum(self.seen[key].now for key in alive))

    def reap(self) -> dict[int, int]:
        """Collect children that have ended: exit statuses by process id."""
        ended = {}
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            self.waited_cpu += usage.ru_utime + usage.ru_stime
            ended[pid] = os.waitstatus_to_exitcode(status)

    @property
    def cpu(self) -> float:
        """CPU seconds, user and system, of all that has run in the tree."""
        return max(self.waited_cpu, sum(process.cpu for process in self.seen.values()))


def _descendants(root: int) -> dict[tuple[int, int], float]:
    """(process id, start time) → CPU seconds of every process below `root`."""
    parents: dict[int, tuple[int, int, float]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields is not None:
                parents[int(entry)] = int(fields[1]), int(fields[19]), (int(fields[11]) + int(fields[12])) / TICK
    found: dict[tuple[int, int], float] = {}
    below = {root}
    while below:
        below = {pid for pid, (parent, _, _) in parents.items() if parent in below}
        found.update({(pid, parents[pid][1]): parents[pid][2] for pid in below})
    return found


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (field 3 of proc(5)); None for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _look(pid: int, process: Seen, with_memory: bool) -> None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        status = Path(f"/proc/{pid}/status").read_text()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text() if with_memory else None
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        process.now = 0
        return
    if not process.name or not command.startswith("ray::IDLE"):  # what a Ray worker was, not that it waits
        process.name = command[:200] or process.name
    process.rss = max(process.rss, _kilobytes(status, "VmHWM:"))
    if rollup is not None:
        process.now = _kilobytes(rollup, "Pss:")


def _kilobytes(text: str, label: str) -> int:
    """The value of a line like "VmHWM:  123 kB", in bytes; 0 if there is none."""
    for line in text.splitlines():
        if line.startswith(label):
            return int(line.split()[1]) * 1024
    return 0


def main(result: str, command: list[str]) -> int:
    """Run `command` and write what it took to the file `result`; its exit code (128 + n where a signal ended it)."""
    watch = Watch()
    started = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    code: int | None = None
    wall = 0.0
    while True:
        watch.sample()
        ended = watch.reap()
        if pid in ended:
            code, wall = ended[pid], time.monotonic() - started
        left = _descendants(os.getpid())
        if code is not None and not left:
            break
        if code is not None and time.monotonic() - started - wall > GRACE_S:
            for other, _ in left:
                os.kill(other, signal.SIGKILL)
        time.sleep(SAMPLE_S if code is None else 0.02)
    processes = [{"name": p.name, "cpu": round(p.cpu, 3), "peak_rss": p.rss} for p in watch.seen.values()]
    text = json.dumps({"wall": wall, "cpu": watch.cpu, "peak_memory": watch.peak, "processes": processes})
    Path(result).write_text(text)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
