"""Tar files whose bytes depend on nothing but their members; each member's place is known as it is written."""

from __future__ import annotations

import logging
import tarfile
from pathlib import Path
from typing import BinaryIO

from curation.storage import Folder, storage_errors

log = logging.getLogger(__name__)

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


class NewTar:
    """A tar of a folder, under a temporary name until it is committed. All of it raises StorageError."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self.name = name
        self._path: Path = folder.temp(name)
        with storage_errors(str(self._path)):
            self._file: BinaryIO = open(self._path, "wb")
        self.writer = TarWriter(self._file)

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Offset and length of the member's bytes."""
        with storage_errors(str(self._path)):
            return self.writer.add(name, data)

    def commit(self) -> int:
        with storage_errors(str(self._path)):
            self.writer.finish()
            self._file.close()
        self._folder.commit(self._path, self.name)
        return self.writer.size

    def abandon(self) -> None:
        try:
            self._file.close()
        except OSError:  # what was left to be written does not fit either, and nobody wants it
            log.info("%s: thrown away unfinished", self._path)
        finally:
            self._path.unlink(missing_ok=True)
