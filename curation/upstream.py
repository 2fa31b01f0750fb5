"""Of which table of the stage before it a stage's folder is made. Stages ask before they work, and `fsck`.

The same settings may make another table: downloads and captions differ from day to day. Who deletes a stage's folder to
have it made anew gets all later stages anew, too, of every run that shares it.
"""

from __future__ import annotations

import hashlib
import logging

from curation.fragments import MANIFEST
from curation.storage import Folder

log = logging.getLogger(__name__)

UPSTREAM = "upstream.json"


def is_stale(folder: Folder, upstream: Folder) -> bool:
    """Whether `folder` is made of another table than `upstream` has. One that does not say is not."""
    return folder.exists(UPSTREAM) and folder.read_json(UPSTREAM) != _table(upstream)


def begin(folder: Folder, upstream: Folder) -> None:
    """Empty `folder` if it is stale, and have it say of which table it is. `upstream` is finished."""
    if is_stale(folder, upstream):
        log.warning("%s is made anew, for %s was", folder.url, upstream.url)
        clear(folder)
    if not folder.exists(UPSTREAM):
        folder.write_json(UPSTREAM, _table(upstream))


def clear(folder: Folder) -> None:
    """Delete what a stage made. Shards stay, and are written over."""
    # The manifest goes first, and last what says that all of it is stale.
    for name in sorted(folder.sizes(), key=lambda name: (name == UPSTREAM, name != MANIFEST)):
        folder.delete(name)


def _table(folder: Folder) -> dict[str, str]:
    """What tells a table from another one of the same name: its manifest, and those of all tables that it is made of,
    for fragments may be called the same and hold something else."""
    digest = hashlib.sha256()
    for name in (MANIFEST, UPSTREAM):
        digest.update(folder.read_bytes(name) if folder.exists(name) else b"")
    return {"sha256": digest.hexdigest()}
