"""What a source's input was: part of the source stage's identity, so that a changed list is read anew."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from curation.config import SourceSettings
from curation.errors import SourceError
from curation.sources.files import READ_ERRORS, SourceFile, find_files
from curation.text import without_secrets

END = 32 << 20
"""Bytes at each end of a list that are hashed; a smaller one is whole."""
TAR_END = 1 << 20
"""The same of a tar, of which there may be thousands."""
_CHUNK = 1 << 20


def signature(settings: SourceSettings, setting: str = "source") -> dict[str, Any]:
    """The input of the source at `setting`, as JSON values.

    Files: name, size and SHA-256 of each (of a list over 64 MiB, of its first and last 32 MiB and its time or ETag; of
    a tar over 2 MiB, of its first and last one). Moving a list changes nothing, but moving images does, for rows say
    where they are. Hub datasets: what the config says of them. Raises ConfigError at `setting`.path where nothing is
    there, SourceError where a file cannot be read.
    """
    if settings.kind == "hf" and _is_hub_name(settings.path):
        return {
            "hub": settings.path,
            "config": settings.hf_config,
            "split": settings.split,
            "revision": settings.revision,
        }
    files = find_files(settings.path, settings.kind, setting)
    end = TAR_END if settings.kind == "webdataset" else END
    found: dict[str, Any] = {"files": [[f.name, f.size, _digest(f, end)] for f in files]}
    if settings.kind in ("webdataset", "img2dataset"):
        url = without_secrets(files[0].url)
        found["held_in"] = url.removesuffix(files[0].name)
    if settings.kind == "img2dataset":
        tars = [f.sibling(".tar") for f in files]
        found["tars"] = [[t.name, *_tar_digest(t)] for t in tars]
    return found


def _is_hub_name(path: str) -> bool:
    """True for "NAME" and "OWNER/NAME", where no folder of that name is here."""
    return not path.startswith((".", "/", "~")) and path.count("/") <= 1 and not os.path.exists(path)


def _tar_digest(tar: SourceFile) -> tuple[int, str]:
    try:
        info = tar.fs.info(tar.path)
    except FileNotFoundError:
        return 0, ""
    file = SourceFile(tar.fs, tar.path, tar.name, int(info["size"]), info)
    return file.size, _digest(file, TAR_END)


_digests: dict[tuple[str, int, str, int], str] = {}
"""Of files that tell their version: a command asks several times, an ablation for each of its arms."""


def _digest(file: SourceFile, end: int) -> str:
    """SHA-256, hex."""
    known = file.url, file.size, _version(file), end
    if known not in _digests or not _version(file):
        _digests[known] = _read_digest(file, end)
    return _digests[known]


def _read_digest(file: SourceFile, end: int) -> str:
    digest = hashlib.sha256()
    try:
        with file.open() as stream:
            if file.size <= 2 * end:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
            else:
                for start in (0, file.size - end):
                    stream.seek(start)
                    left = end
                    while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                        digest.update(chunk)
                        left -= len(chunk)
                digest.update(_version(file).encode())
    except READ_ERRORS as error:
        raise SourceError(f"{file.url}: {error}") from error
    return digest.hexdigest()


def _version(file: SourceFile) -> str:
    """What tells two versions of a large file apart without reading it."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified", "created"):
        if file.info.get(key):
            return f"{key}={file.info[key]}"
    return ""
