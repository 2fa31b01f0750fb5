"""The pictures that the benchmarks' origin serves: JPEGs in one file, made once, then sent from the page cache."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from benchmarks.photos import cut, photo_files
from curation.scenes.dice import Dice

FOLDER = Path(__file__).resolve().parents[1] / "build" / "origin"
VERSION = 2
"""Change it when pictures change: pools of other versions are made anew."""


@dataclass(frozen=True)
class Picture:
    """One JPEG of the pool: pixels, and its place in the file (bytes)."""

    width: int
    height: int
    offset: int
    length: int


@dataclass(frozen=True)
class Pool:
    """`large` pictures have a shorter side of at least 1024 pixels and about 3 megapixels; `small` ones have less."""

    path: Path
    large: tuple[Picture, ...]
    small: tuple[Picture, ...]

    def read(self, picture: Picture) -> bytes:
        """The JPEG."""
        with self.path.open("rb") as file:
            file.seek(picture.offset)
            return file.read(picture.length)


def make_pool(large: int = 60, small: int = 120, folder: Path = FOLDER) -> Pool:
    """The pool of these counts; made in about 10 seconds where it is not in `folder` yet."""
    words = [VERSION, large, small, [(p.name, p.stat().st_size) for p in photo_files()]]
    name = hashlib.blake2b(json.dumps(words).encode(), digest_size=6).hexdigest()
    index = folder / f"{name}.json"
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{name}.bin", index, large, small)
    held = json.loads(index.read_text())
    sides = {kind: tuple(Picture(**p) for p in held[kind]) for kind in ("large", "small")}
    return Pool(folder / f"{name}.bin", sides["large"], sides["small"])


def _write(path: Path, index: Path, large: int, small: int) -> None:
    held: dict[str, list[dict[str, int]]] = {"large": [], "small": []}
    unfinished = path.with_suffix(f".{uuid4().hex[:8]}")
    with unfinished.open("wb") as file:
        for kind, number in [("large", i) for i in range(large)] + [("small", i) for i in range(small)]:
            width, height = _sides(kind, number)
            data = cut((kind, number), width, height, Dice("quality", kind, number).whole(85, 92))
            held[kind].append(asdict(Picture(width, height, file.tell(), len(data))))
            file.write(data)
    os.replace(unfinished, path)
    unfinished.write_text(json.dumps(held))
    os.replace(unfinished, index)


def _sides(kind: str, number: int) -> tuple[int, int]:
    """Large: 1100 to 2600 pixels on the longer side. Small: 320 to 1350, most under 700, as on the web."""
    dice = Dice("sides", kind, number)
    aspect = dice.weighted({1.0: 0.15, 4 / 3: 0.35, 3 / 2: 0.35, 16 / 9: 0.15})
    if kind == "large":
        longer = max(dice.between(1100, 2600), 1024 * aspect)
    else:
        longer = min(math.exp(dice.between(math.log(320), math.log(1350))), 1000 * aspect)
    shorter = math.ceil(longer / aspect)
    return (round(longer), shorter) if dice.chance(0.7) else (shorter, round(longer))
