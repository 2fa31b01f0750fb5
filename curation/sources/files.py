"""The files that a source's `path` means: one file, a folder, a glob, on a disk or on any fsspec file system.

Every reader but `hf` starts here, and so does `signature`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import aiohttp
import fsspec
from fsspec.implementations.local import LocalFileSystem

from curation.errors import ConfigError, SourceError

SUFFIXES = {
    "parquet": (".parquet", ".parq", ".pq"),
    "csv": (".csv", ".csv.gz"),
    "tsv": (".tsv", ".tsv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
    "txt": (".txt", ".txt.gz"),
    "hf": ("",),
    "webdataset": (".tar",),
    "img2dataset": (".parquet",),
}
"""Which files of a folder belong to a source of each kind. A glob, or a file named outright, may be called anything."""


READ_ERRORS = (OSError, aiohttp.ClientError)
"""What file systems raise when reading fails: object stores' clients raise OSErrors, fsspec's HTTP client its own."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    fs: Any
    """fsspec file system."""
    path: str
    """Path within `fs`."""
    name: str
    """Path below the folder, or below the fixed part of the glob; what messages and signatures call it."""
    size: int
    """Bytes."""
    info: Mapping[str, Any]
    """What the file system says of it: `mtime`, `ETag`, …"""

    @cached_property
    def local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    @cached_property
    def url(self) -> str:
        """Absolute path on a disk, or URL; with it any process on any machine that sees the storage opens the file."""
        return self.path if self.local else str(self.fs.unstrip_protocol(self.path))

    def open(self) -> Any:
        """A binary file. Raises SourceError."""
        try:
            return open(self.path, "rb") if self.local else self.fs.open(self.path, "rb")
        except READ_ERRORS as error:
            raise SourceError(f"{self.url}: {getattr(error, 'strerror', None) or error}") from error

    def sibling(self, suffix: str) -> SourceFile:
        """The file beside this one whose name differs in its last suffix; its size is unknown (0)."""
        swap = os.path.splitext
        return SourceFile(self.fs, swap(self.path)[0] + suffix, swap(self.name)[0] + suffix, 0, {})


def find_files(path: str, kind: str, setting: str) -> list[SourceFile]:
    """The files that `path` means, sorted by path. Raises ConfigError at `setting`.path where there are none."""
    where = f"{setting}.path"
    fs, root = open_fs(path, where)
    try:
        found, base = _look(fs, root, kind)
    except FileNotFoundError:
        raise ConfigError(where, f"not found: {path}") from None
    except PermissionError as error:
        raise ConfigError(where, f"{path}: {error.strerror or error}") from None
    except READ_ERRORS as error:
        raise SourceError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not found and base == root:
        raise ConfigError(where, f"the folder {path} holds no file named *{' or *'.join(SUFFIXES[kind])}")
    if not found:
        raise ConfigError(where, f"no file matches {path}")
    ends = "?" if _on_web(fs) else "\0"  # a query is no part of a name, and signatures stand there
    return [
        SourceFile(fs, p, p.removeprefix(base).lstrip("/").partition(ends)[0], int(info.get("size") or 0), info)
        for p, info in sorted(found.items())
    ]


def open_fs(path: str, where: str) -> tuple[Any, str]:
    """File system and path within it; a local path is made absolute. Raises ConfigError at `where`."""
    if "://" not in path:
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(path))
    try:
        fs, root = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise ConfigError(where, f"cannot open {path}: {error}") from None
    if isinstance(fs, LocalFileSystem):
        root = os.path.abspath(root)
    return fs, root if root == "/" else str(root).rstrip("/")


def _look(fs: Any, root: str, kind: str) -> tuple[dict[str, Mapping[str, Any]], str]:
    """Matching files, and the folder that their names are relative to."""
    try:
        info = fs.info(root)
    except FileNotFoundError:
        if not _is_glob(fs, root):
            raise
        matches: dict[str, Any] = fs.glob(root, detail=True)
        fixed = root[: min(root.index(c) for c in "*?[" if c in root)]
        return {p: i for p, i in matches.items() if i["type"] == "file"}, fixed.rpartition("/")[0]
    if info["type"] == "file":
        return {root: info}, root.rpartition("/")[0]
    below: dict[str, Any] = fs.find(root, detail=True)
    wanted = {p: i for p, i in below.items() if p.lower().endswith(SUFFIXES[kind]) and not _hidden(p, root)}
    return wanted, root


def _is_glob(fs: Any, root: str) -> bool:
    """True where `root` has wildcards; in a web address, `?` and `[` are not wildcards."""
    return any(c in root for c in ("*" if _on_web(fs) else "*?["))


def _on_web(fs: Any) -> bool:
    return "http" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _hidden(path: str, root: str) -> bool:
    """True for what Spark, Hadoop and editors leave beside data: `_SUCCESS`, `_temporary/`, `.x.crc`."""
    return any(part.startswith((".", "_")) for part in path.removeprefix(root).strip("/").split("/"))
