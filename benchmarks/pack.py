"""What does pack cost above the bare work on pixels?   python -m benchmarks.pack [--images 120] [--rounds 3]

Ours is one worker of the pack stage: reading and checking the image bank, decode, resize, encode, JSON, tar, checksums,
index and manifest. The floor is a bare loop over the same JPEGs in memory: simplejpeg's full decode, cv2.INTER_AREA to
the same size, simplejpeg's encode at the same quality. The peer is img2dataset's resizer, on the same bytes in memory,
with the settings that people use for training sets: shorter side to 1024, centre crop, JPEG 95.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import pyarrow as pa
import simplejpeg

from benchmarks.measure import Case, alternate, cpu_seconds, report
from benchmarks.photos import cut
from curation.config import PackSettings
from curation.fragments import Fragment, FragmentWriter, outcome_schema
from curation.names import make_uid
from curation.pack.buckets import parse_size
from curation.pack.encode import use_one_thread
from curation.pack.layout import Layout
from curation.pack.stage import Pack
from curation.row import FETCH_FIELDS, KEPT, SOURCE_FIELDS, with_outcomes
from curation.scenes.dice import Dice
from curation.stage import Solo
from curation.storage import Folder

ASPECTS = (1.0, 4 / 3, 3 / 2, 16 / 9, 3 / 4, 2 / 3)
SIDES = {"1100 to 1600 px": (1100, 1600), "1600 to 2600 px": (1600, 2600), "1100 to 2600 px": (1100, 2600)}
"""Longer sides; the shorter one is at least 1024, so some come out larger."""
QUALITY = 95
GOAL = 1.15


class Photos(Solo):
    """An image bank of JPEGs, as fetch leaves it."""

    name = "fetch"

    def __init__(self, output: Folder, images: list[bytes]) -> None:
        super().__init__(output, None, {})
        self.images = images

    @property
    def schema(self) -> pa.Schema:
        return outcome_schema(SOURCE_FIELDS, FETCH_FIELDS)

    def build(self) -> list[Fragment]:
        rows = []
        for i, data in enumerate(self.images):
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
            sha256 = hashlib.sha256(data).hexdigest()
            rows.append(
                {
                    **{"uid": make_uid("photos", str(i)), "source": "photos", "url": f"https://example.com/{i}.jpg"},
                    **{"alt_text": "a photo of some length, as captions of the web have it " * 3, "sharpness": 50.0},
                    **{"format": "jpeg", "stored_format": "jpg", "width": width, "height": height, "image": data},
                    **{"sha256": sha256, "source_sha256": sha256, "phash": i},
                }
            )
        schema = pa.schema([*(f for f in self.schema if f.name in rows[0]), pa.field("image", pa.large_binary())])
        writer = FragmentWriter(self.folder, 0, self.schema)
        writer.add(with_outcomes(pa.Table.from_pylist(rows, schema), [KEPT] * len(rows)))
        return [writer.commit(end=True)]


def photos(count: int, smallest: int, largest: int) -> list[bytes]:
    """`count` JPEGs with a longer side of `smallest` to `largest` pixels and a shorter one of at least 1024."""
    images = []
    for i in range(count):
        dice = Dice("pack", i, smallest)
        aspect = dice.pick(ASPECTS)
        long = max(dice.between(smallest, largest), 1100 * max(aspect, 1 / aspect))
        width, height = (long, long / aspect) if aspect >= 1 else (long * aspect, long)
        images.append(cut(("pack", i), round(width), round(height), quality=90))
    return images


def floor(images: list[bytes], sizes: list[tuple[int, int]]) -> None:
    """The bare work."""
    for data, size in zip(images, sizes, strict=True):
        pixels = cv2.resize(simplejpeg.decode_jpeg(data), size, interpolation=cv2.INTER_AREA)
        simplejpeg.encode_jpeg(pixels, QUALITY, "RGB", "420")


def img2dataset_resizer() -> Callable[[bytes], None]:
    """img2dataset's resizer over bytes in memory."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    from img2dataset.resizer import Resizer

    resizer = Resizer(1024, "center_crop", resize_only_if_bigger=False, encode_quality=QUALITY, skip_reencode=False)

    def resize(data: bytes) -> None:
        made = resizer(io.BytesIO(data))
        assert made[-1] is None, made[-1]

    return resize


async def _work(stage: Pack) -> None:
    for partition in stage.unfinished():
        async for _ in stage.work(partition):
            pass


def measure(title: str, count: int, rounds: int, filter: str, folder: Path) -> Case:
    """One case: CPU seconds per 1,000 images."""
    images = photos(count, *SIDES[title])
    settings = PackSettings(quality=QUALITY, filter=filter, shard_samples=count)  # type: ignore[arg-type]
    output = Folder(folder / f"{title} {filter}")
    bank = Photos(output, images)
    bank.run()
    layout = Layout(output, bank, settings, 0, bank.folder)
    layout.run()
    stage = Pack(output, layout, settings, bank.folder, {"name": "bench", "source": []})
    stage.setup(workers=1)
    order = {make_uid("photos", str(i)): data for i, data in enumerate(images)}
    manifest = layout.manifest()
    assert manifest is not None
    assert manifest.counts.kept == count
    rows = layout.folder.read_table(manifest.fragments[0].name, ["uid", "bucket"]).to_pylist()
    chosen = [order[row["uid"]] for row in rows]
    sizes = [parse_size(row["bucket"]) for row in rows]

    def ours() -> None:
        asyncio.run(_work(stage))
        stage.settle()

    def again() -> float:
        if stage.folder.local is not None:
            shutil.rmtree(stage.folder.local, ignore_errors=True)
        return cpu_seconds(ours) / count * 1000

    peer = img2dataset_resizer()
    for data, size in zip(chosen[:3], sizes, strict=False):  # what is loaded once is no cost of an image
        peer(data)
        floor([data], [size])
    again()
    costs = alternate(
        {
            "ours": again,
            "img2dataset": lambda: cpu_seconds(lambda: [peer(data) for data in chosen]) / count * 1000,
            "floor": lambda: cpu_seconds(lambda: floor(chosen, sizes)) / count * 1000,
        },
        rounds,
    )
    peers = {"img2dataset resizer, from memory": costs["img2dataset"]}
    goal = f"<= {GOAL} x floor" if filter == "bicubic" else ""
    return Case(f"{title}, {filter}", "CPU s / 1,000 images", costs["ours"], peers, costs["floor"], goal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=120, help="images a case")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="bench-pack-") as folder:
        cases = [measure(title, given.images, given.rounds, "bicubic", Path(folder)) for title in SIDES]
        cases.append(measure("1100 to 2600 px", given.images, given.rounds, "lanczos", Path(folder)))
    report("pack", cases, [f"{given.images} images a case, one worker, medians of {given.rounds} rounds in turn"])


if __name__ == "__main__":
    main()
