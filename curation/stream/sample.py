"""A sample: the tar records of one key as bytes, taken apart. Nothing in it is ever executed or unpickled.

`reader.py` hands in bytes whose CRC-32C is right; `stream.py` hands samples on. Members are looked at by name only:
`.pkl`, `.pth`, `.npy` and the like stay bytes that nobody opens.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curation.errors import CorruptionError
from curation.sources.tar_index import IMAGE_EXTENSIONS, Damage, Member, samples, scan
from curation.tar import BLOCK

EMPTY = "empty"
"""The kind of caption that says nothing: for guidance without a classifier (Ho & Salimans 2021)."""
PRIMARY = "primary"
"""The kind that stands in `UID.txt`."""


@dataclass(frozen=True)
class Sample:
    """One sample, undecoded."""

    key: str
    members: dict[str, memoryview]
    """Contents by extension ("jpg", "txt", "json", …): views of a buffer that the samples of a batch share."""
    number: int
    """Its number in the stream (`plan.Samples`)."""

    @property
    def image(self) -> memoryview:
        """Encoded bytes of the image. Raises CorruptionError if there is none."""
        for extension in IMAGE_EXTENSIONS:
            if extension in self.members:
                return self.members[extension]
        raise CorruptionError(f"sample {self.key} holds no image")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """`UID.json`; empty where there is none. Raises CorruptionError if it is no JSON object."""
        try:
            facts = json.loads(bytes(self.members.get("json", b"{}")))
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"the JSON of sample {self.key} cannot be read: {error}") from None
        if not isinstance(facts, dict):
            raise CorruptionError(f"the JSON of sample {self.key} is no object")
        return facts

    def caption(self, kind: str) -> str:
        """Its caption of a kind; `primary` is `UID.txt`, `empty` is "". Raises CorruptionError if it has none."""
        if kind == EMPTY:
            return ""
        try:
            if kind == PRIMARY:
                return str(self.members["txt"], "utf-8")
            return next(str(c["text"]) for c in self.facts["captions"] if c["kind"] == kind)
        except (KeyError, StopIteration, TypeError, UnicodeDecodeError):
            raise CorruptionError(f"sample {self.key} has no caption of kind {kind!r}") from None


def take_apart(records: memoryview, number: int) -> Sample:
    """The sample that the tar records of one key hold. Raises CorruptionError where they are not that."""
    members: dict[str, memoryview] = {}
    key: str | None = None
    position, size = 0, len(records)
    while position < size:
        # what our own packer writes: a plain header and the data; all else takes the careful way
        header = bytes(records[position : position + 157])
        name, length, kind = header[:100].rstrip(b"\0"), header[124:135], header[156:]
        stem, dot, extension = name.partition(b".")
        if kind != b"0" or not dot or b"/" in name or b"." in extension or not length.isdigit():
            return _carefully(records, number)
        found = stem.decode("utf-8", "backslashreplace")
        start = position + BLOCK
        end = start + int(length, 8)
        if end > size or (key is not None and found != key):
            return _carefully(records, number)
        key = found
        members[extension.decode("ascii", "replace").lower()] = records[start:end]
        position = start + -(-(end - start) // BLOCK) * BLOCK
    if key is None:
        raise CorruptionError("a sample of no bytes")
    return Sample(key, members, number)


def _carefully(records: memoryview, number: int) -> Sample:
    """The same through the tar scanner: long names, folders, dotted extensions."""
    items: list[Member | Damage] = [
        item for item in scan(io.BytesIO(records), len(records)) if isinstance(item, Member)
    ]
    found = list(samples(iter(items)))
    if len(found) != 1 or isinstance(found[0], Damage):
        raise CorruptionError(f"{len(records)} bytes of tar hold {len(found)} samples, not one")
    members = {e: records[m.offset : m.offset + m.size] for e, m in found[0].members.items()}
    return Sample(found[0].key, members, number)
