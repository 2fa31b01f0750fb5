"""What all benchmarks share: measuring in turn, the table for people, and the line of JSON for programs.

costs = alternate({"ours": ours, "peer": peer, "floor": floor}, rounds=3)
report("pack", [Case("3 megapixels", "CPU s / 1,000", costs["ours"], {"peer": costs["peer"]}, costs["floor"])])
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Case:
    """One measured case. Costs are better when lower; a rate says so by "/s" at the end of its unit."""

    case: str
    unit: str
    ours: float
    peers: Mapping[str, float] = field(default_factory=dict)
    floor: float | None = None
    """What cannot be beaten: the bare work, without anything around it."""
    goal: str = ""
    """For people: "<= 1.15 x floor"."""


def report(name: str, cases: Sequence[Case], notes: Sequence[str] = ()) -> None:
    """Print the table, `notes`, and as the last line the JSON object of benchmark `name`."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    peers = list(dict.fromkeys(peer for case in cases for peer in case.peers))
    table = Table(title=f"benchmarks.{name}", box=None, pad_edge=False)
    for title in ("case", "unit", "ours", *peers, "floor", *(f"ours / {peer}" for peer in [*peers, "floor"]), "goal"):
        table.add_column(title, justify="left" if title in ("case", "unit", "goal") else "right")
    for case in cases:
        others = [*(case.peers.get(peer) for peer in peers), case.floor]
        ratios = [None if not other else case.ours / other for other in others]
        numbers = ["" if x is None else f"{x:.3g}" for x in (case.ours, *others)]
        table.add_row(case.case, case.unit, *numbers, *("" if r is None else f"{r:.2f}" for r in ratios), case.goal)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    lines = []
    for case in cases:
        line = asdict(case)
        del line["goal"]
        lines.append({key: value for key, value in line.items() if value is not None})
    print(json.dumps({"benchmark": name, "cases": lines}), flush=True)


def alternate(runs: Mapping[str, Callable[[], float]], rounds: int = 3) -> dict[str, float]:
    """Call each of `runs` in turn, `rounds` times round, in reversed order each time; the median of what each returned.

    In turn, so that a slow spell of the machine falls on all alike.
    """
    assert rounds >= 3, "a median of fewer than 3 says nothing"
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(runs[name]())
    return {name: statistics.median(values) for name, values in found.items()}


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds, user and system, that `work` takes in this process and in children that it waits for."""

    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before = used()
    work()
    return used() - before


def wall_seconds(work: Callable[[], Any]) -> float:
    """Seconds on the clock that `work` takes."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


@dataclass(frozen=True)
class Process:
    """One process of a command's tree."""

    name: str
    """Its command line, or the title that it gave itself (Ray's workers do)."""
    cpu: float
    """Seconds, its own threads only."""
    peak_rss: int
    """Bytes."""


@dataclass(frozen=True)
class Usage:
    """What a command took, with every process that it started, however deep, and whoever adopted it."""

    wall: float
    """Seconds from its start to its own end."""
    cpu: float
    """CPU seconds, user and system."""
    peak_memory: int
    """Most bytes that the tree held at once (proportional set size, sampled every two seconds)."""
    processes: tuple[Process, ...]
    returncode: int
    output: str
    """Standard output and error together."""


def run_command(command: Sequence[str], *, env: Mapping[str, str] | None = None, check: bool = True) -> Usage:
    """Run `command` and measure its tree of processes (Linux only). Raises RuntimeError if it fails and `check`."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "usage.json"
        watcher = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("watch.py")), str(result), *command],
            env=None if env is None else dict(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if not result.exists() or (check and watcher.returncode):
            raise RuntimeError(f"{' '.join(command)} ended with {watcher.returncode}:\n{watcher.stdout[-4000:]}")
        found = json.loads(result.read_text())
    processes = tuple(Process(**process) for process in found.pop("processes"))
    return Usage(**found, processes=processes, returncode=watcher.returncode, output=watcher.stdout)
