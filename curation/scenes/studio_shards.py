"""The studio as a web of images would be met: WebDataset tars of pictures, each with captions of several lengths.

    python -m curation.scenes.studio_shards runs/ablations/studio [--count 20000]

The ablations of the embedded world take these tars as their source. Held-out scenes are not among the pictures. Each
sample is `KEY.png` (48 × 48, lossless) with `KEY.json`: `number`, `alt` (web-like text), `caption_short`,
`caption_medium` and `caption_dense`, all true but for `alt`. Picture n is the same on all machines and for every count.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from curation.scenes.describe import alt, dense, medium, short
from curation.scenes.studio import studio_picture, studio_scene
from curation.tar import TarWriter

COUNT = 20_000
SHARD = 1000
"""Pictures of a tar."""


def write_studio(folder: Path, count: int = COUNT, *, processes: int | None = None) -> list[Path]:
    """Write the tars of `count` pictures that are not there yet; returns all of them. With as many processes as there
    are cores, if not given; 1: in this one."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, SHARD)
    paths = [folder / f"studio-{start // SHARD:05d}-of-{count}.tar" for start in starts]
    missing = [(path, start) for path, start in zip(paths, starts, strict=True) if not path.exists()]
    if processes == 1:
        for path, start in missing:
            _write(path, start, min(count, start + SHARD))
    elif missing:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            made = [pool.submit(_write, path, start, min(count, start + SHARD)) for path, start in missing]
            for one in made:
                one.result()
    return paths


def sample(number: int) -> tuple[bytes, dict[str, object]]:
    """Picture `number` as a PNG, and its JSON."""
    seed = ("studio", number)
    scene = studio_scene(seed, held_out=False)
    file = io.BytesIO()
    Image.fromarray(studio_picture(scene, seed)).save(file, "PNG", compress_level=4)
    return file.getvalue(), {
        "number": number,
        "alt": alt(scene, seed),
        "caption_short": short(scene),
        "caption_medium": medium(scene),
        "caption_dense": dense(scene, seed),
    }


def _write(path: Path, start: int, stop: int) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        tar = TarWriter(file)
        for number in range(start, stop):
            picture, facts = sample(number)
            tar.add(f"{number:08d}.png", picture)
            tar.add(f"{number:08d}.json", json.dumps(facts, sort_keys=True).encode())
        tar.finish()
    os.replace(temporary, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the tars go")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures")
    args = parser.parse_args()
    paths = write_studio(args.folder, args.count)
    print(f"{args.count:,} pictures in {len(paths)} tars under {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
