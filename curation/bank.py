"""The image bank: pixels of kept rows, stored once by fetch, read by every later stage that needs them."""

from __future__ import annotations

import hashlib

from curation.errors import CorruptionError
from curation.storage import Folder


class ImageBank:
    """Reads stored images by their place (`tar`, `offset`, `length`) and checks them against `sha256`."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def read(self, tar: str, offset: int, length: int, sha256: str) -> bytes:
        """Encoded bytes of one image.

        Raises CorruptionError if they are not those that were stored (a fault of that row), StorageError if the tar
        cannot be read at all (the run stops: a store that is away for a moment damages no row).
        """
        data = self._folder.read_range(tar, offset, length)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptionError(f"{self._folder.path(tar)}: bytes {offset}+{length} are not those that were stored")
        return data
