"""Shards from afar, kept on this node: one copy for all its processes, the least recently used go first.

A shard is downloaded whole by one process while the others wait, checked against its SHA-256, and renamed into place
under that hash. Only files that stand in the cache's own folder, under such a name, with the note of their download
beside them, are ever deleted. A file that is deleted while somebody reads it stays readable until it is closed. What a
killed download leaves is cleared by the next one that needs room, which waits for room that others are filling.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import ConfigError, CorruptionError, StorageError
from curation.storage import storage_errors
from curation.stream.corpus import ShardFile

_NAME = re.compile(r"[0-9a-f]{64}")
_BLOCK = 8 << 20


def check_room(limit: int, largest: int) -> None:
    """Raises ConfigError where the `largest` shard does not fit into `limit` bytes."""
    if largest > limit:
        raise ConfigError(
            "run.cache_bytes", f"{limit:,} bytes do not hold one shard: the largest has {largest:,} bytes"
        )


class ShardCache:
    """The cache in `folder`, of at most `limit` bytes. Raises ConfigError where `largest` shard does not fit."""

    def __init__(self, folder: str, limit: int, largest: int) -> None:
        check_room(limit, largest)
        self._folder = Path(folder).expanduser() / "curate-shards"
        self._limit = limit
        with storage_errors(str(self._folder)):
            self._folder.mkdir(parents=True, exist_ok=True)

    def open(self, shard: ShardFile, fetch: Callable[[int, int], bytes]) -> int:
        """A descriptor of a local file with the shard's bytes, to read; for the rest as `path`."""
        while True:
            path = self.path(shard, fetch)
            try:
                return os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue  # another process made room just now
            except OSError as error:
                raise StorageError(f"{path}: {error.strerror}") from error

    def path(self, shard: ShardFile, fetch: Callable[[int, int], bytes]) -> Path:
        """A local file with the shard's bytes; downloads it by `fetch(offset, length)` if it is not there.

        Raises CorruptionError if what came is not what the manifest says, StorageError where the disk is full.
        """
        path = self._folder / f"{shard.sha256}.tar"
        if not self._touch(path, shard.bytes):
            with self._locked(f"{shard.sha256}.lock"):
                if not self._touch(path, shard.bytes):  # another process may have been faster
                    self._download(shard, path, fetch)
        return path

    def _touch(self, path: Path, size: int) -> bool:
        """Say that the file was used just now; False if it is not there, or not whole after a loss of power."""
        try:
            os.utime(path)
            return path.stat().st_size == size
        except FileNotFoundError:
            return False

    def _download(self, shard: ShardFile, path: Path, fetch: Callable[[int, int], bytes]) -> None:
        self._clear(shard.sha256)
        note = path.with_suffix(".json")
        while True:
            with self._locked("room.lock"):
                if self._make_room(shard.bytes):
                    with storage_errors(str(path)):
                        note.write_text(json.dumps({"shard": shard.name, "bytes": shard.bytes}))
                    break
            time.sleep(0.1)  # other processes' downloads fill the room; they end, or their locks go with them
        temporary = path.with_suffix(f".tmp-{os.getpid()}")
        digest = hashlib.sha256()
        try:
            with storage_errors(str(path)), open(temporary, "wb") as file:
                for offset in range(0, shard.bytes, _BLOCK):
                    block = fetch(offset, min(_BLOCK, shard.bytes - offset))
                    digest.update(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != shard.sha256:
                raise CorruptionError(f"shard {shard.name}: what was downloaded is not what the manifest says")
            with storage_errors(str(path)):
                os.rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            if not path.exists():
                note.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> bool:
        """Delete shards, the least recently used first, until `needed` more bytes fit; False where downloads that are
        going on leave no room."""
        used, kept = 0, []
        for note in self._folder.glob("*.json"):
            if not _NAME.fullmatch(note.stem):
                continue
            try:
                found = note.with_suffix(".tar").stat()
                kept.append((found.st_mtime, found.st_size, note))
            except FileNotFoundError:
                with self._locked(f"{note.stem}.lock", wait=False) as alone:
                    if alone:  # whoever was filling this room is done, or dead
                        self._clear(note.stem)
                used += self._noted(note)
        used += sum(size for _, size, _ in kept)
        for _, size, note in sorted(kept, key=lambda item: item[0]):
            if used + needed <= self._limit:
                break
            note.with_suffix(".tar").unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            used -= size
        return used + needed <= self._limit

    def _clear(self, sha256: str) -> None:
        """Delete what a download that was killed has left; only for who holds the shard's lock."""
        for path in self._folder.glob(f"{sha256}.tmp-*"):
            path.unlink(missing_ok=True)
        if not (self._folder / f"{sha256}.tar").exists():
            (self._folder / f"{sha256}.json").unlink(missing_ok=True)

    def _noted(self, note: Path) -> int:
        try:
            facts: Any = json.loads(note.read_text())
            return int(facts["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0  # it has just been cleared

    @contextmanager
    def _locked(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Alone among the processes of this node; the lock goes with its holder, however that ends. Without `wait`:
        False where another holds it."""
        with storage_errors(str(self._folder / name)), open(self._folder / name, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                try:
                    yield True
                finally:  # by word: a child that was forked meanwhile has the file open too
                    fcntl.flock(file, fcntl.LOCK_UN)
