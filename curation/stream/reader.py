"""Bytes of samples, checked: local shards by one `pread` a sample, others by ranges or through the node's cache.

A file is never mapped into memory: one that shrinks under a map kills the process, one that shrinks under `pread` is
told as damage.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import numpy as np
from crc32c import crc32c

from curation.config.stream import ReadRun
from curation.errors import CorruptionError, StorageError
from curation.storage import storage_errors
from curation.stream.cache import ShardCache
from curation.stream.corpus import Corpus

MOST_OPEN = 512
"""Files that a process holds open, for all corpora together: a usual limit is 1,024."""
AT_ONCE = 16
"""Ranges from afar that one process reads at once."""


class Reader:
    """Reads samples of one corpus by row. Made anew in each process: it holds files and threads."""

    def __init__(self, corpus: Corpus, run: ReadRun, most_open: int = MOST_OPEN) -> None:
        self._corpus = corpus
        self._run = run
        self._most_open = most_open
        self._open: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()
        """Who holds it may use `_open`: another would close what is being read."""
        weakref.finalize(self, _close_all, self._open)  # a stream that is let go leaves no files open
        self._refused: dict[int, CorruptionError] = {}  # downloads that were not the shard: once is enough
        self._cache: ShardCache | None = None
        self._pool: ThreadPoolExecutor | None = None
        if corpus.folder.local is None and run.cache is not None:
            self._cache = ShardCache(run.cache, run.cache_bytes, max(shard.bytes for shard in corpus.shards))
        elif corpus.folder.local is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, "curate-read")

    def close(self) -> None:
        _close_all(self._open)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def read(self, rows: Sequence[int]) -> list[memoryview | CorruptionError]:
        """The tar records of each of `rows`, or what is wrong with them; all in one buffer, which lives as they do.

        Raises StorageError where a shard cannot be read at all, after all retries.
        """
        # One large buffer for all, which the kernel backs with large pages: a `pread` into a new object for each sample
        # costs ten times as much, for the pages that it touches first.
        ends = np.cumsum(self._corpus.length[np.asarray(rows, np.int64)], dtype=np.int64).tolist()
        buffer = memoryview(np.empty(ends[-1] if ends else 0, np.uint8))  # type: ignore[arg-type]
        parts = [buffer[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if self._pool is not None:
            return list(self._pool.map(self._one, rows, parts))
        with self._lock:  # a stream may be read by several threads of a process
            return [self._one(row, part) for row, part in zip(rows, parts, strict=True)]

    def _one(self, row: int, into: memoryview) -> memoryview | CorruptionError:
        corpus = self._corpus
        number, offset = int(corpus.shard[row]), int(corpus.offset[row])
        try:
            found = self._fill(number, offset, into)
        except CorruptionError as error:  # a download that was not the shard
            return error
        if found == len(into) and crc32c(into) == corpus.crc32c[row]:
            return into
        what = f"cut at {found} of {len(into)} bytes" if found < len(into) else "CRC-32C differs"
        where = f"{corpus.folder.path(corpus.shards[number].name)}: bytes {offset}+{len(into)}"
        return CorruptionError(f"{where}, sample {corpus.keys(np.array([row]))[0]}: {what}")

    def _fill(self, shard: int, offset: int, into: memoryview) -> int:
        """Read into a buffer; returns how many bytes there were."""
        if self._pool is None:
            file = self._file(shard)
            with storage_errors(self._corpus.folder.path(self._corpus.shards[shard].name)):
                return os.preadv(file, [into], offset)
        data = self._from_afar(shard, offset, len(into))
        into[: len(data)] = data
        return len(data)

    def _file(self, number: int) -> int:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self._corpus.shards[number]
        if self._cache is not None:
            for held in [held for held, file in self._open.items() if not os.fstat(file).st_nlink]:
                os.close(self._open.pop(held))  # the cache has deleted it: what is open still takes room on the disk
            if number in self._refused:
                raise self._refused[number]
            try:
                file = self._cache.open(shard, lambda offset, length: self._from_afar(number, offset, length))
            except CorruptionError as error:
                self._refused[number] = error
                raise
        else:
            path = self._corpus.folder.path(shard.name)
            try:
                file = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise StorageError(f"shard {path}: {error.strerror}") from error
        self._open[number] = file
        if len(self._open) > self._most_open:
            os.close(self._open.popitem(last=False)[1])
        return file

    def _from_afar(self, shard: int, offset: int, length: int) -> bytes:
        """One range, given up where it brings nothing for `stall_s`, and tried again."""
        name, run = self._corpus.shards[shard].name, self._run
        for attempt in range(run.retries + 1):
            if attempt:
                time.sleep(min(8.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.5))
            try:
                return _within(run.stall_s, lambda: self._corpus.folder.read_range(name, offset, length))
            except (StorageError, TimeoutError) as error:
                problem = str(error)
        raise StorageError(f"{self._corpus.folder.path(name)}: bytes {offset}+{length}: {problem}")


def _close_all(files: OrderedDict[int, int]) -> None:
    while files:
        os.close(files.popitem()[1])


def _within(seconds: float, read: Callable[[], bytes]) -> bytes:
    """What `read` returns or raises; TimeoutError after `seconds`, when its thread is left behind."""
    answer: SimpleQueue[bytes | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            answer.put(read())
        except BaseException as error:
            answer.put(error)

    threading.Thread(target=work, name="curate-range", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"nothing came for {seconds:g} s") from None
    if isinstance(found, BaseException):
        raise found
    return found
