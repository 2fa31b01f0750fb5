"""One sample of a shard: the bytes of `UID.jpg` (or png, webp), `UID.txt` and `UID.json`.

`UID.json` has the same keys with the same types in every sample of a corpus. Missing values are "", -1, -1.0 or false.

    uid, source, url, license       where it comes from
    source_sha256, sha256           of the downloaded file; of the image in the shard
    format, phash                   of the downloaded file; perceptual hash, 16 hex digits
    original_width, original_height pixels before the resize ┐
    crop_left, crop_top             pixels cut off after it  ├ what SDXL is conditioned on
    width, height, bucket           of the image in the shard┘
    pad_left, pad_top, pad_right, pad_bottom                    white border (`fit: pad`)
    captions                        [{kind, model, text, tokens, words}], the primary one first, all kinds always
    scores                          {name: float}: sharpness, and whatever scorers and the list have as floats
    extra                           {name: value}: further columns that the user kept; left out where there are none
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.config import PackSettings
from curation.pack.buckets import parse_size
from curation.pack.captions import caption_column, caption_kinds, caption_of
from curation.pack.encode import encode_image
from curation.pack.frame import Frame, contain, cover, stretch
from curation.pack.plain import plain
from curation.row import RESERVED

_SCORES = ("sharpness",)
_NEEDED = (
    *("uid", "source", "url", "license", "source_sha256", "format", "phash", "width", "height", "bucket"),
    *("stored_format", "tar", "offset", "length", "sha256"),
)


@dataclass(frozen=True)
class Sample:
    """What goes into the shard for one row."""

    uid: str
    image: bytes
    txt: bytes
    json: bytes
    frame: Frame
    captions: tuple[dict[str, Any], ...]

    def members(self, extension: str) -> list[tuple[str, bytes]]:
        """File names and contents, in the order in which they stand in the shard."""
        return [
            (f"{self.uid}.{extension}", self.image),
            (f"{self.uid}.txt", self.txt),
            (f"{self.uid}.json", self.json),
        ]


class SampleMaker:
    """Makes samples out of rows of one schema. Raises ConfigError if the primary kind of caption is not there."""

    def __init__(self, schema: pa.Schema, settings: PackSettings) -> None:
        self._settings = settings
        self.kinds = caption_kinds(schema, settings.primary)
        caption_columns = [caption_column(kind) for kind in self.kinds]
        beside = [f"{column}_{what}" for column in caption_columns for what in ("model", "tokens")]
        self._captions = [*caption_columns, *(name for name in beside if name in schema.names)]
        own = {*RESERVED, *self._captions}
        free = [f for f in schema if f.name not in own and not _is_embedding(f.type)]
        self.scores = (*_SCORES, *(f.name for f in free if pa.types.is_floating(f.type)))
        self.extra = tuple(f.name for f in free if not pa.types.is_floating(f.type))
        self._columns = list(dict.fromkeys([*_NEEDED, *self._captions, *self.scores, *self.extra]))

    def rows(self, table: pa.Table) -> list[dict[str, Any]]:
        """The rows of `table` with what `make` needs, without nulls. `phash` becomes hex."""
        columns: dict[str, Sequence[Any]] = {name: plain(table[name]) for name in self._columns if name != "phash"}
        columns["phash"] = ["" if value is None else f"{value:016x}" for value in table["phash"].to_pylist()]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def make(self, row: dict[str, Any], stored: bytes) -> Sample:
        """The sample of one of `rows`; `stored` is its image in the bank. Raises CorruptionError (`encode_image`)."""
        frame = self._frame(row)
        image = encode_image(stored, row["stored_format"], frame, self._settings)
        captions = tuple(caption_of(row, kind) for kind in self.kinds)
        data = {name: row[name] for name in ("uid", "source", "url", "license", "source_sha256", "format", "phash")}
        data |= {
            "sha256": hashlib.sha256(image).hexdigest(),
            "bucket": row["bucket"],
            "width": frame.size[0],
            "height": frame.size[1],
            "original_width": frame.original[0],
            "original_height": frame.original[1],
            "captions": captions,
            "scores": {name: row[name] for name in self.scores},
        }
        for name in ("crop_left", "crop_top", "pad_left", "pad_top", "pad_right", "pad_bottom"):
            data[name] = getattr(frame, name)
        if self.extra:
            data["extra"] = {name: row[name] for name in self.extra}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return Sample(row["uid"], image, captions[0]["text"].encode(), text.encode(), frame, captions)

    def _frame(self, row: dict[str, Any]) -> Frame:
        original, size = (row["width"], row["height"]), parse_size(row["bucket"])
        if self._settings.buckets == "none":
            return stretch(original, size)
        if self._settings.fit == "pad":
            return contain(original, size, self._settings.upscale)
        return cover(original, size)


def _is_embedding(kind: pa.DataType) -> bool:
    """Vectors stay in the stages' tables: they would be most of a sample's JSON."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_floating(kind.value_type))
    return bool(pa.types.is_fixed_size_list(kind))
