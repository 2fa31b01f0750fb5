"""Reads images that a source already holds: a range of a file, by path or fsspec URL.

`crawl.py` calls it instead of a GET.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from curation.errors import StorageError
from curation.row import Reason, Verdict
from curation.storage import Folder

THREADS = 8


class Held:
    """Reads in threads of its own, so that a slow store does not hold up name look-ups."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="held")

    async def read(self, path: str, offset: int | None, length: int | None) -> bytes | Verdict:
        """The image's bytes; without `length`, to the end of the file.

        Raises StorageError where the store is away, or does not let us in: that is no fault of a row.
        """
        if length is not None and length > self._max_bytes:
            return Verdict(Reason.TOO_MANY_BYTES, f"{length} bytes, at most {self._max_bytes} are allowed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, path, offset or 0, length)

    def _read(self, path: str, offset: int, length: int | None) -> bytes | Verdict:
        parent, _, name = path.rpartition("/")
        folder = Folder(parent or ("/" if path.startswith("/") else "."))
        try:
            # One byte more than allowed shows that a file of unknown length is too large.
            data = folder.read_range(name, offset, self._max_bytes + 1 if length is None else length)
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            return Verdict(Reason.SOURCE_IMAGE_UNREADABLE, str(error))
        if length is not None and len(data) < length:
            return Verdict(Reason.SOURCE_IMAGE_UNREADABLE, f"{path} ends {length - len(data)} bytes too early")
        return data or Verdict(Reason.EMPTY_BODY, f"{path} holds no bytes there")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
