"""From URLs to shards: `curate run` against img2dataset's command, on the same origin, list and output settings.

    python -m benchmarks.ingest [--urls 20000] [--rounds 3] [--cases kept-20,kept-3,latency]

Both keep images of at least 1,024 pixels on the shorter side, scale the longer side to 1,024, encode JPEG at 95 and
write WebDataset tars. Ours is the whole command: Ray's start and stop, every stage, the report. CPU counts every
process that the command starts, Ray's daemons too. The floor is a bare loop in one process that decodes, resizes and
encodes the kept images from memory. The slow case answers after 100 ms, and 5 % of its hosts never do.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import simplejpeg
import yaml

from benchmarks.measure import Case, Usage, alternate, cpu_seconds, report, run_command
from benchmarks.origin import Origin, serve
from curation.fragments import read_manifest
from curation.run_log import read_run
from curation.storage import Folder

SIDE = 1024
CONNECTIONS = 256
TIMEOUT_S = 10
FLOOR_IMAGES = 500


def ours(listed: Path, output: Path) -> tuple[Usage, int]:
    """`curate run`: what it took, and how many samples it packed."""
    config = {
        "name": "ingest",
        "output": str(output),
        "source": {"kind": "parquet", "path": str(listed), "columns": {"url": "url", "alt_text": "caption"}},
        "stages": {
            "fetch": {
                "min_side": SIDE,
                "timeout_s": TIMEOUT_S,
                "retries": 0,
                "allow_networks": ["127.0.0.0/8"],
                "run": {"concurrency": CONNECTIONS, "per_host": CONNECTIONS},
            },
            # Pixels of the origin repeat from a pool: only equal files are duplicates.
            "select": {"dedup": {"exact": "bytes"}},
            "pack": {"resolution": SIDE, "buckets": "none", "quality": 95, "shard_samples": 1000},
        },
    }
    output.mkdir(parents=True)
    path = output / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    usage = run_command([sys.executable, "-m", "pipelines.cli", "run", str(path)])
    folder = Folder(output)
    manifest = read_manifest(folder.child(read_run(folder)["corpus"]))
    assert manifest is not None
    return usage, manifest.counts.kept


def img2dataset(listed: Path, output: Path) -> tuple[Usage, int]:
    """img2dataset's command with the same settings, one process a core as its manual advises."""
    cores = os.cpu_count() or 1
    options = {
        "url_list": listed,
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "caption",
        "output_format": "webdataset",
        "output_folder": output,
        "processes_count": cores,
        "thread_count": CONNECTIONS // cores,
        "image_size": SIDE,
        "resize_mode": "keep_ratio_largest",
        "resize_only_if_bigger": True,
        "min_image_size": SIDE,
        "encode_quality": 95,
        "number_sample_per_shard": 1000,
        "timeout": TIMEOUT_S,
        "retries": 0,
        "enable_wandb": False,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    usage = run_command(
        [str(Path(sys.executable).with_name("img2dataset")), *words],
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    kept = sum(pq.read_table(p, columns=["status"])["status"].to_pylist().count("success") for p in _tables(output))
    return usage, kept


def _tables(output: Path) -> list[Path]:
    return sorted(output.glob("*.parquet"))


def floor(images: list[bytes]) -> float:
    """CPU seconds for all of `images`, from a sample of them: decode, INTER_AREA, encode."""
    cv2.setNumThreads(1)
    sample = random.Random(0).sample(images, min(FLOOR_IMAGES, len(images)))

    def work() -> None:
        for data in sample:
            pixels = simplejpeg.decode_jpeg(data)
            height, width = pixels.shape[:2]
            scale = SIDE / max(width, height)
            size = (round(width * scale), round(height * scale))
            simplejpeg.encode_jpeg(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), 95, colorsubsampling="420")

    return cpu_seconds(work) / len(sample) * len(images)


def compare(origin: Origin, name: str, rounds: int, scratch: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Median wall and CPU seconds of both commands and the floor on one origin."""
    listed = origin.write_list(scratch / f"{name}.parquet")
    images = origin.kept_bytes(SIDE)
    cpu: dict[str, list[float]] = {"ours": [], "img2dataset": []}
    kept: dict[str, set[int]] = {"ours": set(), "img2dataset": set()}

    def run(who: str, command: Callable[[Path, Path], tuple[Usage, int]]) -> float:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            usage, count = command(listed, Path(folder) / "out")
        cpu[who].append(usage.cpu)
        kept[who].add(count)
        print(f"{name}: {who} {usage.wall:.1f} s wall, {usage.cpu:.1f} s CPU, {count} kept", flush=True)
        return usage.wall

    wall = alternate(
        {
            "ours": lambda: run("ours", ours),
            "img2dataset": lambda: run("img2dataset", img2dataset),
            "floor": lambda: floor(images),
        },
        rounds,
    )
    if kept["ours"] != kept["img2dataset"]:
        raise RuntimeError(f"{name}: not the same work: {kept}")
    return wall, {who: sorted(values)[len(values) // 2] for who, values in cpu.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.partition("\n")[0])
    parser.add_argument("--urls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default="kept-20,kept-3,latency")
    parser.add_argument("--scratch", type=Path, default=None, help="folder for what the commands write")
    given = parser.parse_args()
    cases = []
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        for name in given.cases.split(","):
            share = 0.03 if name == "kept-3" else 0.2
            slow = {"latency_ms": 100.0, "dead_share": 0.05} if name == "latency" else {}
            urls = given.urls // 4 if slow else given.urls
            with serve(urls, large=share, **slow) as origin:
                wall, cpu = compare(origin, name, given.rounds, Path(folder))
            what = f"{urls:,} URLs, {share:.0%} kept" + (", 100 ms latency, 5 % dead hosts" if slow else "")
            goal = "<= 0.5 x img2dataset"
            cases.append(Case(what, "wall s", wall["ours"], {"img2dataset": wall["img2dataset"]}, goal=goal))
            if not slow:
                per = 1000 / urls
                goal = f"<= {0.2 if name == 'kept-3' else 0.45} x img2dataset, <= 1.3 x floor"
                peers = {"img2dataset": cpu["img2dataset"] * per}
                cases.append(Case(what, "CPU s / 1,000 URLs", cpu["ours"] * per, peers, wall["floor"] * per, goal))
    report("ingest", cases)


if __name__ == "__main__":
    main()
