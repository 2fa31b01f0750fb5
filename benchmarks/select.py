"""A changed threshold over 10 million rows: how long, how much memory?

    python -m benchmarks.select [--rows 10000000] [--fragment-rows 50000] [--hashes 1000000] [--folder DIR]

Makes a table in the shape of what fetch and score leave (`benchmarks/select_table.py`, about 0.25 GB a million rows;
`--folder` keeps it for the next time), then runs select over it from nothing, each time in a process of its own: where,
exact duplicates, top by. The peers do the same work in the two ways one would write down first, and write only the
rows that stay, no ledger:

- `pyarrow`: a dataset scan with the condition pushed down, pandas for duplicates and order, one file;
- `duckdb`: one COPY statement, with the same memory limit as ours.

All three must keep the same rows. The second part finds the perceptual duplicates among a million hashes; its peer
compares all pairs, measured on fewer hashes and scaled by their square.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.measure import Case, Usage, alternate, report, run_command
from benchmarks.select_table import Scored
from curation.config import SelectSettings
from curation.select.near import near_duplicates
from curation.select.rules import MEMORY
from curation.select.stage import Select
from curation.storage import Folder

AESTHETIC, SHARPNESS = 5.5, 40
WHERE = f"aesthetic >= {AESTHETIC} and sharpness >= {SHARPNESS}"
BITS = 4
ALL_PAIRS = 20_000
"""Hashes that the peer compares."""


def top(rows: int) -> int:
    return rows // 20


def ours(table: Scored, output: Path) -> None:
    settings = SelectSettings(where=WHERE, top=top(table.rows), by="aesthetic")
    Select(Folder(output), table, settings).run()


def plain_pyarrow(table: Scored, output: Path) -> None:
    condition = (pc.field("aesthetic") >= AESTHETIC) & (pc.field("sharpness") >= SHARPNESS)
    rows = ds.dataset(table.folder.root, format="parquet", exclude_invalid_files=True).to_table(filter=condition)
    few = rows.select(["uid", "source_sha256", "width", "height", "length", "aesthetic"]).to_pandas()
    few["pixels"] = few.width.astype("int64") * few.height
    few = few.sort_values(["pixels", "length", "uid"], ascending=[False, False, True]).drop_duplicates("source_sha256")
    best = few.sort_values(["aesthetic", "uid"], ascending=[False, True]).head(top(table.rows)).index
    output.mkdir(parents=True)
    pq.write_table(rows.take(pa.array(np.sort(best.to_numpy()))), output / "kept.parquet", compression="zstd")


def plain_duckdb(table: Scored, output: Path) -> None:
    output.mkdir(parents=True)
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(output / "scratch")}) as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_parquet('{table.folder.root}/*.parquet') WHERE {WHERE} "
            "QUALIFY row_number() OVER (PARTITION BY source_sha256 "
            "ORDER BY width::BIGINT * height DESC, length DESC, uid) = 1 "
            f"ORDER BY aesthetic DESC, uid LIMIT {top(table.rows)}) "
            f"TO '{output}/kept.parquet' (COMPRESSION zstd)"
        ).fetchall()


CONTESTANTS = {"ours": ours, "pyarrow": plain_pyarrow, "duckdb": plain_duckdb}


def kept(output: Path) -> set[str]:
    """Uids of the rows that a contestant kept."""
    files = sorted(output.rglob("*.parquet"))
    columns = [c for c in pq.read_schema(files[0]).names if c in ("uid", "outcome")]
    rows = pa.concat_tables([pq.read_table(file, columns=columns) for file in files])
    return set(rows.filter(pc.equal(rows["outcome"], "kept"))["uid"].to_pylist())


def compete(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Usage]]:
    """Each contestant in turn, in a process of its own."""
    found: dict[str, list[Usage]] = {name: [] for name in CONTESTANTS}
    names: dict[str, set[str]] = {}

    def run(name: str) -> float:
        sizes = ["--rows", str(arguments.rows), "--fragment-rows", str(arguments.fragment_rows)]
        with tempfile.TemporaryDirectory(dir=folder) as output:
            child = [sys.executable, "-m", "benchmarks.select", *sizes, "--folder", str(folder)]
            found[name].append(run_command([*child, "--child", name, "--output", f"{output}/{name}"]))
            names[name] = names.get(name) or kept(Path(output) / name)
        print(f"{name}: {found[name][-1].wall:.1f} s, {found[name][-1].peak_memory / 2**30:.2f} GiB", flush=True)
        return found[name][-1].wall

    alternate({name: lambda name=name: run(name) for name in CONTESTANTS}, arguments.rounds)  # type: ignore[misc]
    assert names["ours"] == names["pyarrow"] == names["duckdb"], "they did not keep the same rows"
    return found


def near_hashes(n: int) -> np.ndarray:
    """Hashes of which about half are near another: a fifth as many centres, up to 5 bits away."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, n // 5, dtype=np.uint64)[rng.integers(0, n // 5, n)]
    for _ in range(5):
        flipped = hashes ^ (np.uint64(1) << rng.integers(0, 64, n).astype(np.uint64))
        hashes = np.where(rng.random(n) < 0.5, flipped, hashes)
    return hashes


def near_case(n: int, rounds: int) -> Case:
    hashes = near_hashes(n)
    few = hashes[:ALL_PAIRS]

    def banding() -> float:
        started = time.perf_counter()
        near_duplicates(hashes, BITS)
        return time.perf_counter() - started

    def all_pairs() -> float:
        started = time.perf_counter()
        for i in range(len(few)):
            np.flatnonzero(np.bitwise_count(few[i + 1 :] ^ few[i]) <= BITS)
        return (time.perf_counter() - started) * (n / len(few)) ** 2

    costs = alternate({"ours": banding, "all pairs": all_pairs}, rounds)
    title = f"perceptual duplicates, {n:,} hashes, {BITS} bits: wall clock"
    return Case(title, "s", costs["ours"], {"all pairs": costs["all pairs"]}, goal="< 60 s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.select", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--fragment-rows", type=int, default=50_000, help="rows of the input's fragments")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the table here, or find it here")
    parser.add_argument("--child", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        table = Scored(Folder(folder), arguments.rows, arguments.fragment_rows)
        if arguments.child:
            CONTESTANTS[arguments.child](table, arguments.output)
            return
        print(f"making {arguments.rows:,} rows in {folder} …", flush=True)
        table.run()
        usages = compete(arguments, folder)
    cases = []
    for title, unit, goal, measure in (
        ("wall clock", "s", "< 30 s", lambda u: u.wall),
        ("CPU", "s", "", lambda u: u.cpu),
        ("peak memory", "GiB", "< 4 GiB", lambda u: u.peak_memory / 2**30),
    ):
        costs = {name: statistics.median(map(measure, found)) for name, found in usages.items()}
        title = f"changed threshold over {arguments.rows:,} rows: {title}"
        cases.append(Case(title, unit, costs.pop("ours"), costs, goal=goal))
    cases.append(near_case(arguments.hashes, arguments.rounds))
    report("select", cases)


if __name__ == "__main__":
    main()
