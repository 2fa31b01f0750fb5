"""Semantic duplicates among a million embeddings: how long, how much memory, how many are missed?

    python -m benchmarks.semantic [--rows 1000000] [--few 100000] [--folder DIR]

Makes a table with an embedding a row and planted duplicates (`benchmarks/embeddings.py`, 1.6 GB a million rows;
`--folder` keeps it for the next time), then runs select over it from nothing, each time in a process of its own. A
fifth of the rows has to go; the cases say how many of them stayed, and how many others went.

The peers find the near pairs of fewer embeddings, in memory, without what decides who stays:

- `faiss IVF`: `range_search` of an inverted file with as many clusters, of which it probes as many;
- `all pairs`: `range_search` of a flat index, which misses nothing; measured on fewer rows and scaled by their square;
- `one cluster a row`: ours, with a row in its nearest cluster alone as in SemDeDup.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from math import sqrt
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.embeddings import THRESHOLD, WIDTH, Embedded, Planted
from benchmarks.measure import Case, Usage, alternate, report, run_command
from curation.config import SelectSettings
from curation.select import semantic
from curation.select.stage import Select
from curation.storage import Folder

FRAGMENT_ROWS = 5_000
ALL_PAIRS = 20_000
"""Embeddings that the peer compares."""


def ours(table: Embedded, output: Path) -> None:
    settings = SelectSettings.model_validate({"dedup": {"semantic": THRESHOLD}})
    Select(Folder(output), table, settings).run()


def dropped(output: Path) -> NDArray[np.int64]:
    """Numbers of the rows that select dropped."""
    (folder,) = Folder(output).folders()
    stage = Folder(output).child(folder)
    names = [name for name in stage.sizes() if name.endswith(".parquet")]
    rows = pa.concat_tables([stage.read_table(name, ["uid", "outcome"]) for name in names]).to_pylist()
    return np.array([int(row["uid"], 16) for row in rows if row["outcome"] == "rejected"])


def judge(planted: Planted, lost: NDArray[np.int64]) -> tuple[float, int]:
    """Per cent of the planted duplicates that stayed, and how many other rows went."""
    found = np.isin(planted.copies, lost).sum()
    return 100 * float(1 - found / len(planted.copies)), int(len(lost) - found)


def whole(arguments: argparse.Namespace, folder: Path, planted: Planted) -> list[Case]:
    """Select over all rows, in a process of its own."""
    usages: list[Usage] = []
    for _ in range(arguments.rounds):
        sizes = ["--rows", str(arguments.rows), "--folder", str(folder)]
        with tempfile.TemporaryDirectory(dir=folder) as output:
            child = [sys.executable, "-m", "benchmarks.semantic", *sizes, "--child", "--output", f"{output}/select"]
            usages.append(run_command(child))
            missed, wrong = judge(planted, dropped(Path(output) / "select"))
        usage = usages[-1]
        print(f"ours: {usage.wall:.1f} s, {usage.cpu:.1f} CPU s, {usage.peak_memory / 2**30:.2f} GiB", flush=True)
    name = f"{arguments.rows:,} embeddings through select"
    return [
        Case(f"{name}: wall clock", "s", statistics.median(u.wall for u in usages), goal="< 300 s"),
        Case(f"{name}: CPU", "s", statistics.median(u.cpu for u in usages)),
        Case(f"{name}: peak memory", "GiB", statistics.median(u.peak_memory / 2**30 for u in usages), goal="< 8 GiB"),
        Case(f"{name}: planted duplicates missed", "%", missed, goal="< 0.5 %"),
        Case(f"{name}: other rows dropped", "rows", wrong, goal="0"),
    ]


def few(rows: int, rounds: int) -> list[Case]:
    """Ours and the peers on `rows` embeddings in memory."""
    planted = Planted(rows)
    order = np.lexsort((np.arange(rows), -planted.score))
    with tempfile.TemporaryDirectory() as folder:
        halves = np.array(planted.write(Path(folder) / "embeddings"))
    floats = halves.astype(np.float32)
    floats /= np.linalg.norm(floats, axis=1, keepdims=True)
    quality: dict[str, tuple[float, int]] = {}

    def joining(joined: int, name: str) -> float:
        usual, semantic.JOINED = semantic.JOINED, joined
        started = time.perf_counter()
        winner = semantic.semantic_duplicates(halves, order, THRESHOLD)
        seconds = time.perf_counter() - started
        semantic.JOINED = usual
        quality[name] = judge(planted, order[winner >= 0])
        return seconds

    def inverted_file() -> float:
        started = time.perf_counter()
        clusters = int(semantic.CLUSTERS * sqrt(rows))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, clusters, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, semantic.SAMPLE
        index.cp.niter, index.cp.spherical = semantic.ITERATIONS, True
        index.train(floats)
        index.add(floats)
        index.nprobe = semantic.JOINED
        limits, _, found = index.range_search(floats, THRESHOLD)
        seconds = time.perf_counter() - started
        quality["faiss IVF"] = judge(planted, losers(limits, found))
        return seconds

    def losers(limits: NDArray[Any], found: NDArray[Any]) -> NDArray[np.int64]:
        """Rows that have a better one near."""
        asked = np.repeat(np.arange(rows), np.diff(limits).astype(np.int64))
        return np.unique(asked[planted.score[found] > planted.score[asked]])

    def all_pairs() -> float:
        some = floats[:ALL_PAIRS]
        started = time.perf_counter()
        index = faiss.IndexFlatIP(WIDTH)
        index.add(some)
        index.range_search(some, THRESHOLD)
        return (time.perf_counter() - started) * (rows / len(some)) ** 2

    costs = alternate(
        {
            "ours": lambda: joining(semantic.JOINED, "ours"),
            "faiss IVF": inverted_file,
            "all pairs": all_pairs,
            "one cluster a row": lambda: joining(1, "one cluster a row"),
        },
        rounds,
    )
    missed = {name: share for name, (share, _) in quality.items()} | {"all pairs": 0.0}
    title = f"{rows:,} embeddings in memory"
    return [
        Case(f"{title}: wall clock", "s", costs.pop("ours"), costs),
        Case(f"{title}: planted duplicates missed", "%", missed.pop("ours"), missed),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.semantic", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=100_000, help="rows that the peers get")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the table here, or find it here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        planted = Planted(arguments.rows)
        table = Embedded(Folder(folder), planted, FRAGMENT_ROWS)
        if arguments.child:
            ours(table, arguments.output)
            return
        print(f"making {arguments.rows:,} rows in {folder} …", flush=True)
        table.run()
        cases = whole(arguments, folder, planted)
    report("semantic", [*cases, *few(arguments.few, arguments.rounds)])


if __name__ == "__main__":
    main()
