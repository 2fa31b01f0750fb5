"""Does ten times the list take ten times the time, in the same memory?

    python -m benchmarks.scale [--rows 4000] [--rounds 3]

Runs `curate run` over N and over 10 N rows of the loopback origin. Time is that of the stages (`run.json`); Ray's start
is a constant, shown apart. Memory is the peak resident size of the driver and of the largest process of each kind. No
peer: the question is about ourselves at two sizes; `peers` holds the smaller one, scaled by ten for time.
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
    parser.add_argument("--rows", type=int, default=4_000, help="rows of the smaller list")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[int, list[tuple[dict[str, float], dict[str, int], Usage]]] = {given.rows: [], 10 * given.rows: []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.rounds):
            for rows in list(found)[:: 1 if turn % 2 == 0 else -1]:
                found[rows].append(measure(rows, Path(folder)))
                stages, memory, usage = found[rows][-1]
                shown = ", ".join(f"{k} {v / 1e6:.0f} MB" for k, v in memory.items())
                print(
                    f"{rows:,} rows: stages {sum(stages.values()):.1f} s, all {usage.wall:.1f} s; {shown}", flush=True
                )
    small, large = (
        {
            "seconds": statistics.median(sum(stages.values()) for stages, _, _ in runs),
            **{kind: statistics.median(memory[kind] for _, memory, _ in runs) for kind in runs[0][1]},
        }
        for runs in found.values()
    )
    what = f"{given.rows:,} -> {10 * given.rows:,} rows, {SHARE:.0%} kept"
    cases = [
        Case(what, "s of stages", large["seconds"], {"10 x smaller run": 10 * small["seconds"]}, goal="0.85 to 1.15")
    ]
    for kind in KINDS:
        if kind in small and kind in large:
            peers = {"smaller run": small[kind] / 1e6}
            cases.append(Case(what, f"MB peak, {kind}", large[kind] / 1e6, peers, goal="<= 1.10"))
    report("scale", cases)


if __name__ == "__main__":
    main()
