"""Tar files whose bytes depend on nothing but their members; each member's place is known as it is written."""

from __future__ import annotations

import tarfile
from typing import BinaryIO

BLOCK = 512


class TarWriter:
    """Appends members to a binary file. USTAR headers with mode 0644, no owner, no time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        """Bytes written so far."""

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Write one member; returns the offset and the length of its data in bytes."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
        padding = -len(data) % BLOCK
        self._file.write(header)
        self._file.write(data)
        self._file.write(b"\0" * padding)
        offset = self.size + len(header)
        self.size = offset + len(data) + padding
        return offset, len(data)

    def finish(self) -> None:
        """Write the two empty blocks that end a tar. The file stays open."""
        self._file.write(b"\0" * (2 * BLOCK))
        self.size += 2 * BLOCK
