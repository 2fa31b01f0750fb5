"""Where the members of a tar are, from its headers alone: nothing is unpacked, and no header is believed unchecked.

Used by the sources that hold images (`webdataset`, `img2dataset`). `tarfile` and the `webdataset` library end silently
at damage or at a cut between members; here both come out as `Damage`, and what follows a damaged header is found again.
Format: POSIX.1-2001 pax and ustar, and GNU's long names (GNU tar manual, "Basic Tar Format").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from curation.tar import BLOCK

REGULAR = (b"0", b"\0", b"7")
DATALESS = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, folders, pipes: a size in their headers is not followed by data."""
EXTENSION_LIMIT = 1 << 20
"""Bytes of the largest long-name or pax header that is read."""
_END_BLOCKS = 40
"""Empty blocks after which a tar is over: two end it, and writers pad to records of 20."""


@dataclass(frozen=True)
class Member:
    """A regular file in a tar."""

    name: str
    offset: int
    """Where its data start, bytes."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Damage:
    """A place from which members may be missing."""

    offset: int
    problem: str


def scan(file: BinaryIO, size: int) -> Iterator[Member | Damage]:
    """Regular members of the tar `file` of `size` bytes, in order, and damage where it is met.

    The caller may move the file's position between items.
    """
    position = 0
    empty = 0
    name: str | None = None
    pax: dict[str, str] = {}
    while position < size:
        header = _read(file, position, BLOCK)
        if not any(header):
            empty += 1
            position += BLOCK
            if empty > _END_BLOCKS:
                return
            continue
        fields = _parse(header)
        if fields is None:
            cut = len(header) < BLOCK
            yield Damage(
                position, f"cut in a header at byte {position}" if cut else f"damaged header at byte {position}"
            )
            found = None if cut else _next_header(file, position + BLOCK, size)
            if found is None:
                return
            position, name, pax = found, None, {}
            continue
        empty = 0
        kind, plain_name, length = fields
        start = position + BLOCK
        if kind not in (b"x", b"g", b"L", b"K") and re.fullmatch(r"[0-9]{1,19}", pax.get("size", "")):
            length = int(pax["size"])
        if kind in DATALESS:
            length = 0
        if start + length > size:
            yield Damage(position, f"cut at byte {size}, inside {pax.get('path') or name or plain_name!r}")
            return
        position = start + -(-length // BLOCK) * BLOCK
        if kind in (b"L", b"x"):
            data = _read(file, start, min(length, EXTENSION_LIMIT))
            if kind == b"L":
                name = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
            else:
                pax = _pax(data)
        elif kind not in (b"g", b"K"):
            if kind in REGULAR and not any(key.startswith("GNU.sparse") for key in pax):
                yield Member(pax.get("path") or name or plain_name, start, length)
            name, pax = None, {}
    if not empty:
        yield Damage(size, f"ends at byte {size} without the mark that ends a tar: it may be cut")


_PAX_LENGTH = re.compile(rb"([0-9]{1,9}) ")


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _parse(header: bytes) -> tuple[bytes, str, int] | None:
    """(type flag, name, size) of a header block, or None if its checksum or a number in it is wrong."""
    if len(header) < BLOCK:
        return None
    checksum = _number(header[148:156])
    length = _number(header[124:136])
    if checksum is None or length is None or checksum != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        return None
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return header[156:157], name.decode("utf-8", "backslashreplace"), length


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's base 256 behind a first byte of 0x80; never negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits or b"0", 8) if re.fullmatch(rb"[0-7]*", digits) else None


def _pax(data: bytes) -> dict[str, str]:
    """Records `LENGTH KEY=VALUE\\n`; what comes after a malformed one is ignored."""
    records = {}
    start = 0
    while match := _PAX_LENGTH.match(data, start):
        end = start + int(match[1])
        key, equals, value = data[match.end() : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            break
        records[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "backslashreplace")
        start = end
    return records


def _next_header(file: BinaryIO, position: int, size: int) -> int | None:
    """Offset of the next block that is a sound header, if there is one."""
    chunk_blocks = 2048
    while position < size:
        chunk = _read(file, position, chunk_blocks * BLOCK)
        for start in range(0, len(chunk), BLOCK):
            block = chunk[start : start + BLOCK]
            if block[257:262] == b"ustar" and _parse(block) is not None:
                return position + start
        position += chunk_blocks * BLOCK
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Samples


IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
"""Members that may be images; what they are is told by content, when they are decoded."""
_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)")


@dataclass(frozen=True)
class Sample:
    """Members of one key that follow each other, by extension (lower case): WebDataset's sample."""

    key: str
    members: dict[str, Member]

    @property
    def image(self) -> Member | None:
        """Its image: the member with a plain image extension, else the first like `thumb.jpg`."""
        for extension in IMAGE_EXTENSIONS:
            if extension in self.members:
                return self.members[extension]
        named = (m for e, m in self.members.items() if e.rpartition(".")[2] in IMAGE_EXTENSIONS)
        return next(named, None)


def samples(items: Iterator[Member | Damage]) -> Iterator[Sample | Damage]:
    """Group members by key, which is the path up to the first dot of the file's name.

    A key that comes again after others, or an extension that comes twice, starts a new sample. Members without a dot,
    and hidden ones, belong to no sample.
    """
    key = ""
    members: dict[str, Member] = {}
    for item in items:
        match = _MEMBER.fullmatch(item.name) if isinstance(item, Member) else None
        if isinstance(item, Member) and match is None:
            continue
        extension = match[2].lower() if match else ""
        if members and (match is None or match[1] != key or extension in members):
            yield Sample(key, members)
            members = {}
        if isinstance(item, Damage):
            yield item
        elif match:
            key = match[1]
            members[extension] = item
    if members:
        yield Sample(key, members)
