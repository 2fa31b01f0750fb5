"""A stage as fetch leaves it, without a network: an image bank of generated pictures and the rows that name them."""

from __future__ import annotations

import asyncio
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curation.config import PackSettings
from curation.fragments import Fragment, FragmentWriter, outcome_schema
from curation.names import make_uid
from curation.pack.layout import Layout
from curation.pack.stage import Pack
from curation.row import FETCH_FIELDS, KEPT, SOURCE_FIELDS, Reason, Verdict, with_outcomes
from curation.stage import Solo
from curation.storage import Folder

CONFIG = {"name": "toy", "source": {"name": "default", "path": "/home/user/list.parquet"}}


@dataclass
class Picture:
    """One row of the bank."""

    data: bytes
    stored_format: str
    size: tuple[int, int]
    columns: dict[str, Any] = field(default_factory=dict)
    """Columns other than those that follow from the picture."""


def picture(seed: int, size: tuple[int, int], stored_format: str = "jpg", **columns: Any) -> Picture:
    """A smooth gradient with blobs and some noise, different for each seed."""
    return Picture(encoded(pixels(seed, size), stored_format), stored_format, size, columns)


def pixels(seed: int, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[H, W, 3]."""
    dice = np.random.default_rng(seed)
    width, height = size
    coarse = dice.integers(0, 256, (7, 9, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
    noise = dice.integers(-9, 10, (height, width, 1), np.int16)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def encoded(image: np.ndarray[Any, np.dtype[np.uint8]], stored_format: str = "jpg") -> bytes:
    out = io.BytesIO()
    options = {"jpg": {"quality": 90}, "png": {"compress_level": 1}, "webp": {"quality": 85}}[stored_format]
    Image.fromarray(image).save(out, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[stored_format], **options)
    return out.getvalue()


class Bank(Solo):
    """Pictures in fragments of `per_fragment` rows, plus one row that fetch rejected in each."""

    name = "fetch"

    def __init__(
        self, output: Folder, pictures: list[Picture], extra: list[pa.Field] | None = None, per_fragment: int = 7
    ) -> None:
        digest = hashlib.sha256(b"".join(p.data for p in pictures) + repr([p.columns for p in pictures]).encode())
        super().__init__(output, None, {"pictures": digest.hexdigest(), "per_fragment": per_fragment})
        self._pictures = pictures
        self._extra = extra or []
        self._per_fragment = per_fragment

    @property
    def schema(self) -> pa.Schema:
        return outcome_schema(SOURCE_FIELDS, self._extra, FETCH_FIELDS)

    def build(self) -> list[Fragment]:
        fragments = []
        for index, start in enumerate(range(0, len(self._pictures), self._per_fragment)):
            chosen = self._pictures[start : start + self._per_fragment]
            rows = [self._row(start + i, p) for i, p in enumerate(chosen)]
            rows.append({"uid": make_uid("default", f"gone {index}"), "source": "default", "image": None})
            columns = {f.name: f.type for f in self.schema if f.name not in ("tar", "offset", "length")}
            table = pa.table(
                {name: pa.array([row.get(name) for row in rows], kind) for name, kind in columns.items()}
            ).append_column("image", pa.array([row["image"] for row in rows], pa.large_binary()))
            writer = FragmentWriter(self.folder, index, self.schema)
            writer.add(with_outcomes(table, [KEPT] * len(chosen) + [Verdict(Reason.TOO_SMALL, "it was")]))
            fragments.append(writer.commit(end=True))
        return fragments

    def _row(self, i: int, p: Picture) -> dict[str, Any]:
        return {
            "uid": make_uid("default", str(i)),
            "source": "default",
            "url": f"https://example.com/{i}.jpg",
            "alt_text": f"picture number {i}",
            "format": {"jpg": "jpeg"}.get(p.stored_format, p.stored_format),
            "width": p.size[0],
            "height": p.size[1],
            "source_sha256": hashlib.sha256(b"source" + p.data).hexdigest(),
            "phash": (i * 2**56 + 11) % 2**64,
            "sharpness": 10.5 + i,
            "stored_format": p.stored_format,
            "sha256": hashlib.sha256(p.data).hexdigest(),
            "image": p.data,
            **p.columns,
        }


@dataclass
class Packed:
    """The stages of a packed corpus."""

    bank: Bank
    layout: Layout
    pack: Pack

    @property
    def folder(self) -> Path:
        assert self.pack.folder.local is not None
        return self.pack.folder.local

    @property
    def corpus(self) -> dict[str, Any]:
        manifest = self.pack.manifest()
        assert manifest is not None
        return dict(manifest.extra["corpus"])

    def shards(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / "shards").iterdir())}

    def rows(self, stage: str = "pack") -> list[dict[str, Any]]:
        """Every row of a stage, as its manifest names them."""
        chosen = {"pack": self.pack, "layout": self.layout, "bank": self.bank}[stage]
        manifest = chosen.manifest()
        assert manifest is not None
        return [row for f in manifest.fragments for row in chosen.folder.read_table(f.name).to_pylist()]


def laid_out(
    output: Path, pictures: list[Picture], extra: list[pa.Field] | None = None, seed: int = 0, **settings: Any
) -> Packed:
    """The bank and the layout of `pictures`, done; pack to do."""
    made = PackSettings(**{"resolution": 256, **settings})
    bank = Bank(Folder(output), pictures, extra)
    bank.run()
    layout = Layout(Folder(output), bank, made, seed, bank.folder)
    layout.run()
    return Packed(bank, layout, Pack(Folder(output), layout, made, bank.folder, CONFIG))


def pack(
    output: Path, pictures: list[Picture], extra: list[pa.Field] | None = None, seed: int = 0, **settings: Any
) -> Packed:
    """The whole way."""
    packed = laid_out(output, pictures, extra, seed, **settings)
    finish(packed.pack)
    return packed


def finish(stage: Pack, order: int = 1) -> None:
    """Do what is left, partitions in ascending or descending (`order` -1) order, as an engine would."""
    stage.setup(workers=1)
    for partition in stage.unfinished()[::order]:
        asyncio.run(_work(stage, partition))
    stage.close()
    stage.settle()


async def _work(stage: Pack, partition: Any) -> None:
    async for _ in stage.work(partition):
        pass
