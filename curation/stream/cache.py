"""Shards from afar, kept on this node: one copy for all its processes, the least recently used go first.

A shard is downloaded whole by one process while the others wait, checked against its SHA-256, and renamed into place
under that hash. Only files that stand in the cache's own folder, under such a name, with the note of their download
beside them, are ever deleted. A file that is deleted while somebody reads it stays readable until it is closed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import ConfigError, CorruptionError
from curation.storage import storage_errors
from curation.stream.corpus import ShardFile

_NAME = re.compile(r"[0-9a-f]{64}")
_BLOCK = 8 << 20


class ShardCache:
    """The cache in `folder`, of at most `limit` bytes. Raises ConfigError where `largest` shard does not fit."""

    def __init__(self, folder: str, limit: int, largest: int) -> None:
        if largest > limit:
            raise ConfigError(
                "run.cache_bytes", f"{limit:,} bytes do not hold one shard: the largest has {largest:,} bytes"
            )
        self._folder = Path(folder).expanduser() / "curate-shards"
        self._limit = limit
        with storage_errors(str(self._folder)):
            self._folder.mkdir(parents=True, exist_ok=True)

    def path(self, shard: ShardFile, fetch: Callable[[int, int], bytes]) -> Path:
        """A local file with the shard's bytes; downloads it by `fetch(offset, length)` if it is not there.

        Raises CorruptionError if what came is not what the manifest says, StorageError where the disk is full.
        """
        path = self._folder / f"{shard.sha256}.tar"
        if not self._touch(path):
            with self._locked(f"{shard.sha256}.lock"):
                if not self._touch(path):  # another process may have been faster
                    self._download(shard, path, fetch)
        return path

    def _touch(self, path: Path) -> bool:
        """Say that the file was used just now; False if it is not there."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _download(self, shard: ShardFile, path: Path, fetch: Callable[[int, int], bytes]) -> None:
        with self._locked("room.lock"):
            self._make_room(shard.bytes)
            note = path.with_suffix(".json")
            with storage_errors(str(path)):
                note.write_text(json.dumps({"shard": shard.name, "bytes": shard.bytes}))
        temporary = path.with_suffix(f".tmp-{os.getpid()}")
        digest = hashlib.sha256()
        try:
            with storage_errors(str(path)), open(temporary, "wb") as file:
                for offset in range(0, shard.bytes, _BLOCK):
                    block = fetch(offset, min(_BLOCK, shard.bytes - offset))
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != shard.sha256:
                raise CorruptionError(f"shard {shard.name}: what was downloaded is not what the manifest says")
            with storage_errors(str(path)):
                os.rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            if not path.exists():
                note.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Delete shards, the least recently used first, until `needed` more bytes fit. Notes without a shard are room
        that another process is filling."""
        kept = []
        for note in self._folder.glob("*.json"):
            if not _NAME.fullmatch(note.stem):
                continue
            shard = note.with_suffix(".tar")
            try:
                kept.append((shard.stat().st_mtime, self._noted(note), shard, note))
            except FileNotFoundError:
                kept.append((float("inf"), self._noted(note), shard, note))
        used = sum(size for _, size, _, _ in kept)
        for when, size, shard, note in sorted(kept, key=lambda item: item[0]):
            if used + needed <= self._limit or when == float("inf"):
                return
            shard.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            used -= size

    def _noted(self, note: Path) -> int:
        try:
            facts: Any = json.loads(note.read_text())
            return int(facts["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0  # cut off while it was written: nothing was downloaded under it yet

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Alone among the processes of this node; the lock goes with its holder, however that ends."""
        with storage_errors(str(self._folder / name)), open(self._folder / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
