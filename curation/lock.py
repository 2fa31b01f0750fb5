"""One process at a time in an output folder: two runs in one would each delete what the other has begun.

On local and shared disks only; object stores have no locks. `pipelines.curate.run`, `pipelines.ablate.ablate`,
`curation.train.run.train` and `curation.fsck.fsck` hold their output while they write there.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.errors import StorageError
from curation.storage import Folder, storage_errors

LOCK = ".lock"
_HELD: set[Path] = set()


@contextmanager
def alone(output: str) -> Iterator[None]:
    """Hold `output` in this block. Raises StorageError where another process holds it, or where it cannot be written.

    Where the file system knows no locks, as some shared ones do, nothing is held.
    """
    local = Folder(output).local
    folder = local.resolve() if local is not None else None
    if folder is None or folder in _HELD:
        yield
        return
    with storage_errors(output):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a+", encoding="utf-8")
    with file:
        try:
            # Of the process, not of the open file: children that outlive a killed run do not keep it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise StorageError(f"{holder} works in {output}: wait for it, or choose another output") from None
        except OSError:  # no locks here
            yield
            return
        with storage_errors(output):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        _HELD.add(folder)
        try:
            yield
        finally:
            _HELD.discard(folder)
