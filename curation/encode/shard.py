"""Writes one shard: the samples of a packed shard, in their order, with their tensors. Pictures stay if asked for.

The bytes depend on the packed shard, the models and the settings, and on the arithmetic of the machine: the last bit of
a number may differ between devices, and between batches of other sizes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from crc32c import crc32c

from curation.config.encode import EncodeSettings
from curation.encode.encoder import Encoder
from curation.encode.member import EXTENSION, Latents, Text, to_bytes, torch_dtype
from curation.errors import CorruptionError
from curation.pack.buckets import parse_size
from curation.pack.shard import HashedFile, shard_path
from curation.row import ENCODED_FIELDS, KEPT, PACKED, Reason, Verdict, with_outcomes
from curation.sources.tar_index import IMAGE_EXTENSIONS
from curation.storage import Folder, storage_errors
from curation.stream.decode import Decoder, Picture
from curation.stream.sample import Sample, take_apart
from curation.tar import TarWriter

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 4
"""Batches' worth of samples in hand at once, out of which batches of one size are made. As many are read ahead."""
KEPT_AS_THEY_ARE = ("width", "height", "crop_left", "crop_top", "captions")
"""Fields of `row.PACKED` that no new place changes."""


Written = tuple[dict[str, Any] | None, dict[str, Any]]
"""A row's `packed`, or None where its shard lacks it; and its `row.ENCODED_FIELDS`."""


@dataclass(frozen=True)
class Loaded:
    """A packed sample, its picture as training would see it, and the captions to encode by kind."""

    sample: Sample
    picture: Picture | None
    captions: dict[str, str]


class ShardEncoder:
    """Makes shards with `encoder`, whose models are loaded; `kinds` of caption are encoded."""

    def __init__(
        self, source: Folder, encoder: Encoder, settings: EncodeSettings, kinds: Sequence[str], threads: int
    ) -> None:
        self._source = source
        self._encoder = encoder
        self._settings = settings
        self._kinds = kinds
        self._decoder = Decoder(settings.resolution, settings.upscale)
        self._pictured = settings.latents or settings.semantic is not None
        self._dtype = torch_dtype(settings.dtype)
        self._pool = ThreadPoolExecutor(threads, "curate-read")
        self._models = ThreadPoolExecutor(1 if settings.run.gpus else threads, "curate-encode")

    def close(self) -> None:
        for pool in (self._pool, self._models):
            pool.shutdown(cancel_futures=True)

    async def write(self, folder: Folder, rows: pa.Table) -> pa.Table:
        """Write the shard of `rows` (all of one packed shard, in order) to `folder`.

        Returns the rows with their new places and outcomes. A row that is damaged, or whose tensors are not finite,
        fails, and the shard lacks it. A shard without samples is not written at all.
        """
        name = shard_path(rows["shard"][0].as_py())
        temp = folder.temp(name)
        try:
            with storage_errors(folder.path(name)), HashedFile(str(temp)) as file:
                written, verdicts = await self._fill(file, rows)
            if any(place is not None for place, _ in written):
                folder.commit(temp, name)
            elif folder.exists(name):  # left by a run that was killed, while the packed shard was still whole
                folder.delete(name)
        finally:
            temp.unlink(missing_ok=True)
        places = pa.array([place for place, _ in written], PACKED.type)
        table = rows.set_column(rows.schema.get_field_index(PACKED.name), PACKED, places)
        for field in ENCODED_FIELDS:
            table = table.append_column(field, pa.array([there.get(field.name) for _, there in written], field.type))
        return with_outcomes(table, verdicts)

    async def _fill(self, file: HashedFile, rows: pa.Table) -> tuple[list[Written], list[Verdict]]:
        """Write the whole tar; for each row where it stands, and its verdict."""
        written: list[Written] = []
        verdicts: list[Verdict] = []
        position = 0
        tar = TarWriter(file)
        async for row, found in self._encoded(rows.select(["uid", "shard", "bucket", PACKED.name]).to_pylist()):
            if isinstance(found, Verdict):
                written.append((None, {}))
                verdicts.append(found)
                continue
            place, there = _add(tar, file, *found, images=self._settings.images)
            same = {field: row[PACKED.name][field] for field in KEPT_AS_THEY_ARE}
            written.append(({"position": position, **same, **place}, there))
            verdicts.append(KEPT)
            position += 1
        tar.finish()
        for place_or_none, _ in written:
            if place_or_none is not None:
                place_or_none["tar_bytes"] = tar.size
                place_or_none["tar_sha256"] = file.sha256.hexdigest()
                place_or_none["tar_md5"] = file.md5.hexdigest()
        return written, verdicts

    async def _encoded(
        self, rows: list[dict[str, Any]]
    ) -> AsyncIterator[tuple[dict[str, Any], tuple[Sample, bytes] | Verdict]]:
        """Each row with its sample and its tensors' bytes, or why it has none."""
        for window, loaded in self._windows(rows):
            found: list[tuple[Sample, bytes] | Verdict] = []
            whole = [item for item in loaded if isinstance(item, Loaded)]
            made = iter(self._encode(whole))
            await asyncio.sleep(0)  # where a run that is stopped stops
            for item in loaded:
                if isinstance(item, CorruptionError):
                    found.append(Verdict(Reason.BANK_DAMAGED, str(item)))
                    continue
                data = next(made)
                found.append(data if isinstance(data, Verdict) else (item.sample, data))
            for row, one in zip(window, found, strict=True):
                yield row, one

    def _windows(
        self, rows: list[dict[str, Any]]
    ) -> Iterator[tuple[list[dict[str, Any]], list[Loaded | CorruptionError]]]:
        """Rows some at a time, read and decoded; the next ones are read in the meantime."""
        size = WINDOW * self._settings.run.batch
        windows = [rows[start : start + size] for start in range(0, len(rows), size)]
        ahead = self._read(windows[0])
        for i, window in enumerate(windows):
            futures, ahead = ahead, self._read(windows[i + 1]) if i + 1 < len(windows) else []
            yield window, [future.result() for future in futures]

    def _read(self, rows: list[dict[str, Any]]) -> list[Future[Loaded | CorruptionError]]:
        return [self._pool.submit(self._load, row) for row in rows]

    def _load(self, row: dict[str, Any]) -> Loaded | CorruptionError:
        name, packed = shard_path(row["shard"]), row["packed"]
        data = self._source.read_range(name, packed["offset"], packed["length"])
        try:
            if crc32c(data) != packed["crc32c"]:
                raise CorruptionError(f"{self._source.path(name)}: sample {row['uid']}: CRC-32C differs")
            sample = take_apart(memoryview(data), 0)
            picture = self._decoder(sample, parse_size(row["bucket"])) if self._pictured else None
            return Loaded(sample, picture, {kind: sample.caption(kind) for kind in self._kinds})
        except CorruptionError as error:
            return error

    def _encode(self, loaded: Sequence[Loaded]) -> list[bytes | Verdict]:
        latents = self._latents(loaded)
        texts: list[dict[str, Text]] = [{} for _ in loaded]
        batch = self._settings.run.batch
        for kind in self._kinds:
            for start in range(0, len(loaded), batch):
                captions = [item.captions[kind] for item in loaded[start : start + batch]]
                for i, text in enumerate(self._encoder.texts(captions), start):
                    texts[i][kind] = text.to(self._dtype)
        return [_checked(one, by_kind) for one, by_kind in zip(latents, texts, strict=True)]

    def _latents(self, loaded: Sequence[Loaded]) -> list[Latents | None]:
        found: list[Latents | None] = [None] * len(loaded)
        sizes: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, item in enumerate(loaded):
            if item.picture is not None:
                sizes[item.picture.pixels.shape[:2]].append(i)
        batch = self._settings.run.batch
        batches = [places[start : start + batch] for places in sizes.values() for start in range(0, len(places), batch)]
        pictures = [[p for i in chosen if (p := loaded[i].picture) is not None] for chosen in batches]
        # On a CPU a thread a batch: results do not depend on how many there are, as they would with threads in one.
        for chosen, given, made in zip(batches, pictures, self._models.map(self._made, pictures), strict=True):
            for n, (i, picture) in enumerate(zip(chosen, given, strict=True)):
                height, width = picture.pixels.shape[:2]
                latents, semantic = (None if tensor is None else tensor[n] for tensor in made)
                found[i] = Latents(latents, picture.original_size, picture.crop_top_left, (height, width), semantic)
        return found

    def _made(self, pictures: Sequence[Picture]) -> tuple[Tensor | None, Tensor | None]:
        """Latents and semantic latents [B, C, h, w] of pictures of one size, as they are stored."""
        pixels = [picture.pixels for picture in pictures]
        latents = self._encoder.latents(pixels).to(self._dtype) if self._settings.latents else None
        if self._settings.semantic is None:
            return latents, None
        return latents, self._encoder.wuerstchen.semantic(pixels).to(self._dtype)


def _checked(latents: Latents | None, texts: dict[str, Text]) -> bytes | Verdict:
    """The member's bytes, or the verdict on a sample of which a model, or the stored type, made no number."""
    named = {} if latents is None else latents.named()
    for kind, text in texts.items():
        named |= text.named(f".{kind}")
    wrong = [name for name, tensor in named.items() if not bool(tensor.isfinite().all())]
    return Verdict(Reason.NOT_FINITE, ", ".join(wrong)) if wrong else to_bytes(latents, texts)


def _add(
    tar: TarWriter, file: HashedFile, sample: Sample, data: bytes, *, images: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Append the members; where they stand: fields of `row.PACKED`, and `row.ENCODED_FIELDS`."""
    start, file.crc32c = tar.size, 0
    place: dict[str, Any] = {}
    image = [extension for extension in sample.members if extension in IMAGE_EXTENSIONS] if images else []
    for member, extension in (*(("image", extension) for extension in image[:1]), ("txt", "txt"), ("json", "json")):
        content = bytes(sample.members[extension])
        place[f"{member}_offset"], place[f"{member}_length"] = tar.add(f"{sample.key}.{extension}", content)
        place[f"{member}_crc32c"] = crc32c(content)
    offset, length = tar.add(f"{sample.key}.{EXTENSION}", data)
    there = dict(zip((field.name for field in ENCODED_FIELDS), (offset, length, crc32c(data)), strict=True))
    return place | {"offset": start, "length": tar.size - start, "crc32c": file.crc32c}, there
