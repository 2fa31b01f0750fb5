"""A sample: the tar records of one key as bytes, taken apart. Nothing in it is ever executed or unpickled.

`reader.py` hands in bytes whose CRC-32C is right; `stream.py` hands samples on. Members are looked at by name only:
`.pkl`, `.pth`, `.npy` and the like stay bytes that nobody opens.
"""

from __future__ import annotations

import io
import json
import re
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

_PLAIN = re.compile(rb"(?s)(?=.{124}([0-7]{11})[\0 ].{20}0.{188}\0)([^\0./]{1,60})\.([^\0./]{1,38})\0")
"""A tar header that says no more than size, type "0" (a file) and a name without folders that has one dot."""


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
        for extension, data in self.members.items():  # like `thumb.jpg`: as the index that took it for an image
            if extension.rpartition(".")[2] in IMAGE_EXTENSIONS:
                return data
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
            text = next(c["text"] for c in self.facts["captions"] if c["kind"] == kind)
            text.encode()  # JSON can spell halves of characters, which no tokenizer takes
        except (KeyError, StopIteration, TypeError, AttributeError, UnicodeError):
            raise CorruptionError(f"sample {self.key} has no caption of kind {kind!r}") from None
        return str(text)


def take_apart(records: memoryview, number: int) -> Sample:
    """The sample that the tar records of one key hold. Raises CorruptionError where they are not that."""
    members: dict[str, memoryview] = {}
    key: str | None = None
    position, size = 0, len(records)
    while position < size:
        # what our own packer writes; all else takes the careful way
        header = _PLAIN.match(records, position, position + BLOCK)
        if header is None:
            return _carefully(records, number)
        found, extension = header[2].decode("utf-8", "backslashreplace"), header[3].decode("utf-8", "replace").lower()
        start = position + BLOCK
        end = start + int(header[1], 8)
        if end > size or (key is not None and found != key) or extension in members:
            return _carefully(records, number)
        key = found
        members[extension] = records[start:end]
        position = start + -(-(end - start) // BLOCK) * BLOCK
    if key is None:
        raise CorruptionError("a sample of no bytes")
    return Sample(key, members, number)


def _carefully(records: memoryview, number: int) -> Sample:
    """The same through the tar scanner: long names, folders, dotted extensions."""
    items = list(scan(io.BytesIO(records), len(records)))
    members_at = [i for i, item in enumerate(items) if isinstance(item, Member)]
    # Damage may stand before a sample that follows it; and the end without the mark of an end is none.
    inside = [item for item in items[min(members_at, default=0) :] if isinstance(item, Damage)]
    if any(damage.offset < len(records) for damage in inside):
        raise CorruptionError(f"{len(records)} bytes of tar are no whole sample: {inside[0].problem}")
    found = list(samples(items[i] for i in members_at))
    if len(found) != 1 or isinstance(found[0], Damage):
        raise CorruptionError(f"{len(records)} bytes of tar hold {len(found)} samples, not one")
    members = {e: records[m.offset : m.offset + m.size] for e, m in found[0].members.items()}
    return Sample(found[0].key, members, number)
