"""Reading shards into training: our stream against the loaders that people use, on the same samples.

    python -m benchmarks.stream [--samples 1000] [--rounds 3] [--rows 10000000] [--peers .venv-peers/bin/python]

webdataset and datasets read our tars; mosaicml-streaming and litdata get their own formats, written from the same
samples. They live in an environment of their own, for their dependencies contradict ours; `make peers` makes it. All
read from the page cache, shuffled, in one process without workers; each reading is a process of its own. Decoded means
to half the packed side: peers with Pillow, ours with its scaled decode. The last case is the first batch of a stream
that goes on in the middle of an epoch, with an index of ten million samples.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Case, alternate, report
from benchmarks.pack import Photos, _work
from benchmarks.photos import cut
from curation.config import PackSettings
from curation.pack.layout import Layout
from curation.pack.stage import Pack
from curation.storage import Folder
from curation.stream.corpus import open_corpus

SIDE = 1024
HERE = ("webdataset", "datasets")
ELSEWHERE = ("mosaicml-streaming", "litdata")
RESUME_SHARDS = 1000


def make_corpus(folder: Path, samples: int) -> Path:
    """A packed corpus of square photos."""
    output = Folder(folder)
    bank = Photos(output, [cut(("stream", i), SIDE, SIDE, quality=92) for i in range(samples)])
    bank.run()
    settings = PackSettings(resolution=SIDE, quality=92, shard_samples=200)
    layout = Layout(output, bank, settings, 0, bank.folder)
    layout.run()
    pack = Pack(output, layout, settings, bank.folder, {"name": "bench", "source": []})
    pack.setup(workers=1)
    asyncio.run(_work(pack))
    pack.settle()
    return Path(str(pack.folder.local))


def make_large(folder: Path, corpus: Path, rows: int) -> Path:
    """A corpus of `rows` samples in a thousand shards, all of them names of one and the same tar."""
    small = open_corpus(str(corpus))
    first = np.flatnonzero(small.shard == 0)
    folder.mkdir()
    (folder / "shards").mkdir()
    names = [f"shards/{i:05d}.tar" for i in range(RESUME_SHARDS)]
    for name in names:
        os.link(corpus / small.shards[0].name, folder / name)
    dice = np.random.default_rng(0)
    buckets = np.array([f"{w}x{h}" for w, h in ((1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216))])
    share = rows // RESUME_SHARDS
    with pq.ParquetWriter(folder / "index.parquet", _SCHEMA, compression="zstd") as writer:
        for i in range(RESUME_SHARDS):
            which = first[np.arange(share) % len(first)]
            digits = dice.bytes(16 * share).hex()
            uids = [digits[n : n + 32] for n in range(0, len(digits), 32)]
            columns = [uids, [f"{i:05d}"] * share, buckets[dice.integers(0, len(buckets), share)]]
            writer.write_table(
                pa.table(
                    [*columns, small.offset[which], small.length[which].astype(np.int64), small.crc32c[which]],
                    schema=_SCHEMA,
                )
            )
    shards = [{"name": name, "samples": share, "bytes": small.shards[0].bytes, "sha256": "0" * 64} for name in names]
    index = {"name": "index.parquet", "bytes": (folder / "index.parquet").stat().st_size, "sha256": ""}
    facts = {"shards": shards, "captions": [], "index": index}
    (folder / "manifest.json").write_text(json.dumps({"extra": {"corpus": facts}}))
    return folder


_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("uid", "shard", "bucket")),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("crc32c", pa.uint32()),
    ]
)


def child(command: list[str]) -> object:
    """The last line that a command prints, as JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": tempfile.gettempdir()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000_000, help="samples of the index of the last case")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers/bin/python"))
    given = parser.parse_args()
    notes = [f"{given.samples} samples of {SIDE} x {SIDE}, one process each, medians of {given.rounds} rounds in turn"]
    pythons = dict.fromkeys(HERE, sys.executable)
    if given.peers.exists():
        pythons |= dict.fromkeys(ELSEWHERE, str(given.peers))
    else:
        notes.append(f"{', '.join(ELSEWHERE)}: not measured, no {given.peers} (`make peers`)")
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as scratch:
        corpus = make_corpus(Path(scratch) / "corpus", given.samples)
        shards = str(corpus / "shards")
        script = str(Path(__file__).with_name("stream_peers.py"))

        def peer(name: str, action: str, passes: int, side: int) -> list[str]:
            return [pythons[name], "-P", script, action, name, shards, f"{scratch}/{name}", str(passes), str(side)]

        def ours(what: str, passes: int, side: int, folder: Path = corpus) -> list[str]:
            return [sys.executable, "-m", "benchmarks.stream_ours", what, str(folder), str(passes), str(side)]

        for name in pythons:
            if name in ELSEWHERE:
                subprocess.run(
                    peer(name, "write", 0, 0), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
        cases = []
        for title, passes, side, goal in (
            ("undecoded", 10, 0, ">= 5 x webdataset, > all"),
            ("decoded to 512", 1, SIDE // 2, ">= 1.5 x best peer, >= 0.85 x floor"),
        ):
            runs = {name: partial(child, peer(name, "read", passes, side)) for name in pythons}
            runs["ours"] = partial(child, ours("stream", passes, side))
            if side:
                runs["floor"] = partial(child, ours("floor", passes, side))
            found = alternate(runs, given.rounds)  # type: ignore[arg-type]
            mine, floor = found.pop("ours"), found.pop("floor", None)
            cases.append(Case(title, "samples/s", mine, found, floor, goal))
        shutil.rmtree(Path(scratch) / "mosaicml-streaming", ignore_errors=True)
        large = make_large(Path(scratch) / "large", corpus, given.rows)
        seconds, memory = zip(*(child(ours("resume", 0, 0, large)) for _ in range(given.rounds)), strict=True)  # type: ignore[misc]
        what = f"resume in the middle of {given.rows:,} samples"
        cases.append(Case(what, "s to the first batch", sorted(seconds)[len(seconds) // 2], goal="< 2"))
        cases.append(Case(what, "GiB peak", max(memory) / 2**30, goal="< 1 beside the libraries"))
    report("stream", cases, notes)


if __name__ == "__main__":
    main()
