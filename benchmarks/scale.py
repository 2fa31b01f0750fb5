"""Does a longer list take time in proportion, and the same memory?

    python -m benchmarks.scale [--rows 4000] [--rounds 3]

Runs `curate run` over N, 4 N and 10 N rows of the loopback origin. Time is that of the stages (`run.json`), in which
pools of workers start: a constant of some seconds, so ten times the list takes less than ten times the time. Whether
the rest grows in proportion is told by what a further row takes, up to 4 N and from there on. Memory is the peak
resident size of the driver and of the largest process of each kind. No peer: the question is about ourselves; `peers`
holds the smaller run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.ingest import ours
from benchmarks.measure import Case, Usage, report
from benchmarks.origin import serve
from curation.run_log import read_run
from curation.storage import Folder

SHARE = 0.05
KINDS = {
    "driver": "pipelines.cli",
    "worker": "MapWorker",
    "decoder": "curation.image.child",
    "task": "ray::_run_solo",
}


def peaks(usage: Usage) -> dict[str, int]:
    """Peak resident bytes of the largest process of each kind."""
    found = {}
    for kind, mark in KINDS.items():
        sizes = [p.peak_rss for p in usage.processes if mark in p.name]
        if sizes:
            found[kind] = max(sizes)
    return found


def measure(rows: int, scratch: Path) -> tuple[dict[str, float], dict[str, int], Usage]:
    """Seconds of each stage, peak memory of each kind of process, and the whole usage of one run."""
    with serve(rows, large=SHARE) as origin, tempfile.TemporaryDirectory(dir=scratch) as folder:
        output = Path(folder) / "out"
        usage, _ = ours(origin.write_list(Path(folder) / "list.parquet"), output)
        stages = {s["name"]: s["seconds"] for s in read_run(Folder(output))["stages"]}
    return stages, peaks(usage), usage


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4_000, help="rows of the smallest list")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    sizes = [factor * given.rows for factor in (1, 4, 10)]
    seconds: dict[int, list[float]] = {rows: [] for rows in sizes}
    memory: dict[int, list[dict[str, int]]] = {rows: [] for rows in sizes}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.rounds):
            for rows in sizes[:: 1 if turn % 2 == 0 else -1]:
                stages, peak, usage = measure(rows, Path(folder))
                seconds[rows].append(sum(stages.values()))
                memory[rows].append(peak)
                shown = ", ".join(f"{k} {v / 1e6:.0f} MB" for k, v in peak.items())
                print(f"{rows:,} rows: stages {seconds[rows][-1]:.1f} s, all {usage.wall:.1f} s; {shown}", flush=True)
    small, middle, large = (statistics.median(seconds[rows]) for rows in sizes)
    early, late = ((b - a) / (m - n) for a, b, n, m in ((small, middle, *sizes[:2]), (middle, large, *sizes[1:])))
    what = f"{sizes[0]:,} -> {sizes[2]:,} rows, {SHARE:.0%} kept"
    cases = [
        Case(what, "s of stages", large, {"10 x smallest run": 10 * small}, goal="<= 1.15"),
        Case(what, "ms of stages / further row", 1000 * late, {"up to 4 x": 1000 * early}, goal="0.85 to 1.15"),
    ]
    for kind in KINDS:
        if all(kind in peak for rows in sizes for peak in memory[rows]):
            least, most = (
                statistics.median(peak[kind] for peak in memory[rows]) / 1e6 for rows in (sizes[0], sizes[2])
            )
            cases.append(Case(what, f"MB peak, {kind}", most, {"smallest run": least}, goal="<= 1.10"))
    report("scale", cases)


if __name__ == "__main__":
    main()
