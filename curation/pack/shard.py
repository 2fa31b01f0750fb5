"""Writes one shard: a tar whose bytes depend on its rows, their pixels and the settings, and on nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from crc32c import crc32c

from curation.bank import ImageBank
from curation.errors import CorruptionError
from curation.pack.sample import Sample, SampleMaker
from curation.row import KEPT, MEMBERS, PACKED, Reason, Verdict, with_outcomes
from curation.storage import Folder, storage_errors
from curation.tar import TarWriter

READ_AHEAD = 16
"""Images asked for at once where the bank is an object store."""


def shard_path(shard: str) -> str:
    """File name of a shard in the pack stage's folder: "shards/00000.tar"."""
    return f"shards/{shard}.tar"


class HashedFile(io.BufferedWriter):
    """A new file that hashes what is written to it, as it is written."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path, "w"), buffer_size=1 << 20)
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.crc32c = 0
        """Of what was written since this was last set to 0."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.sha256.update(data)
        self.md5.update(data)
        self.crc32c = crc32c(data, self.crc32c)
        return super().write(data)


async def write_shard(folder: Folder, rows: pa.Table, bank: Folder, maker: SampleMaker, extension: str) -> pa.Table:
    """Write the shard of `rows` (all of one shard, in order), and return them with `packed` and their outcomes.

    A row whose pixels are damaged fails, and the shard lacks it. A shard without samples is not written at all.
    """
    name = shard_path(rows["shard"][0].as_py())
    temp = folder.temp(name)
    try:
        with storage_errors(folder.path(name)), HashedFile(str(temp)) as file:
            places, verdicts = await _fill(file, maker.rows(rows), bank, maker, extension)
        if any(place is not None for place in places):
            folder.commit(temp, name)
        elif folder.exists(name):  # left by a run that was killed, while the bank was still whole
            folder.delete(name)
    finally:
        temp.unlink(missing_ok=True)
    return with_outcomes(rows.append_column(PACKED, pa.array(places, PACKED.type)), verdicts)


async def _fill(
    file: HashedFile, rows: list[dict[str, Any]], bank: Folder, maker: SampleMaker, extension: str
) -> tuple[list[dict[str, Any] | None], list[Verdict]]:
    """Write the whole tar; for each row its `packed`, or None, and its verdict."""
    places: list[dict[str, Any] | None] = []
    verdicts: list[Verdict] = []
    position = 0
    tar = TarWriter(file)
    for row, stored in zip(rows, _read(bank, rows), strict=True):
        await asyncio.sleep(0)  # where a run that is stopped stops
        try:
            if isinstance(stored, CorruptionError):
                raise stored
            sample = maker.make(row, stored)
        except CorruptionError as error:
            places.append(None)
            verdicts.append(Verdict(Reason.BANK_DAMAGED, str(error)))
            continue
        places.append({"position": position, **_add(tar, file, sample, extension)})
        verdicts.append(KEPT)
        position += 1
    tar.finish()
    for place in places:
        if place is not None:
            place |= {"tar_bytes": tar.size, "tar_sha256": file.sha256.hexdigest(), "tar_md5": file.md5.hexdigest()}
    return places, verdicts


def _read(bank: Folder, rows: list[dict[str, Any]]) -> Iterator[bytes | CorruptionError]:
    """The bank's bytes for each row, in order; from an object store, some at once."""
    images = ImageBank(bank)

    def read(row: dict[str, Any]) -> bytes | CorruptionError:
        try:
            return images.read(row["tar"], row["offset"], row["length"], row["sha256"])
        except CorruptionError as error:
            return error

    if bank.local is not None:
        yield from map(read, rows)
        return
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        for start in range(0, len(rows), READ_AHEAD):
            yield from pool.map(read, rows[start : start + READ_AHEAD])


def _add(tar: TarWriter, file: HashedFile, sample: Sample, extension: str) -> dict[str, Any]:
    """Append the members of `sample`; where they stand."""
    start, file.crc32c = tar.size, 0
    place: dict[str, Any] = {}
    for member, (name, data) in zip(MEMBERS, sample.members(extension), strict=True):
        place[f"{member}_offset"], place[f"{member}_length"] = tar.add(name, data)
        place[f"{member}_crc32c"] = crc32c(data)
    frame = sample.frame
    return place | {
        "offset": start,
        "length": tar.size - start,
        "crc32c": file.crc32c,
        "width": frame.size[0],
        "height": frame.size[1],
        "crop_left": frame.crop_left,
        "crop_top": frame.crop_top,
        "captions": [
            {"kind": c["kind"], "words": c["words"], "tokens": _counted(c["tokens"])} for c in sample.captions
        ],
    }


def _counted(tokens: int) -> int | None:
    return tokens if tokens >= 0 else None
