"""Folders on a disk or an object store, with one way to make a file appear: whole, or not at all.

On a disk a file is written under a temporary name in its own folder, fsynced and renamed. On an object store (any
fsspec URL) it is written to a local temporary file and PUT, which takes the rename's place. Credentials and endpoints
come from the environment that the store's own client reads (for S3: AWS_*), never from a config.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import StorageError

TEMP_MARK = ".tmp-"


class Folder:
    """A folder by path or fsspec URL. Cheap to make, equal by URL, and safe to send to other processes."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url).rstrip("/") or "/"
        self._opened: tuple[int, Any, str] | None = None

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.url,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"Folder({self.url!r})"

    @cached_property
    def local(self) -> Path | None:
        """The folder as a path, or None on an object store."""
        if "://" not in self.url:
            return Path(self.url)
        return Path(self.url.removeprefix("file://")) if self.url.startswith("file://") else None

    @property
    def _fs_and_root(self) -> tuple[Any, str]:
        process = os.getpid()  # clients have threads, which do not live on in a forked process
        if self._opened is None or self._opened[0] != process:
            try:
                fs, root = fsspec.url_to_fs(self.url)
            except (ImportError, ValueError) as error:
                raise StorageError(f"cannot open {self.url}: {error}") from None
            self._opened = (process, fs, root.rstrip("/"))
        return self._opened[1:]

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        return self._fs_and_root[0]

    @property
    def root(self) -> str:
        """The folder's path within `fs`."""
        return str(self.local) if self.local is not None else self._fs_and_root[1]

    def child(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}")

    def path(self, name: str) -> str:
        """Path of a file within `fs`."""
        return f"{self.root}/{name}"

    # -- reading -----------------------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        """File names in this folder (not below) and their sizes in bytes; empty if the folder is not there."""
        if self.local is not None:
            found = {}
            with storage_errors(self.url), suppress(FileNotFoundError), os.scandir(self.local) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # another process gave it its name, or deleted it
                        if entry.is_file():
                            found[entry.name] = entry.stat().st_size
            return found
        with storage_errors(self.url):
            self.fs.invalidate_cache(self.root)
            try:
                infos = self.fs.ls(self.root, detail=True)
            except FileNotFoundError:
                return {}
        return {i["name"].rsplit("/", 1)[-1]: i["size"] for i in infos if i["type"] == "file"}

    def names(self, prefix: str) -> list[str]:
        """Sorted names in this folder that begin with `prefix`: no more is asked for than these, however many others
        there are. Empty if the folder is not there."""
        with storage_errors(self.url), suppress(FileNotFoundError):
            if self.local is not None:
                return sorted(name for name in os.listdir(self.local) if name.startswith(prefix))
            self.fs.invalidate_cache(self.root)
            found = (path.rsplit("/", 1)[-1] for path in self.fs.find(self.root, prefix=prefix))
            return sorted(name for name in found if name.startswith(prefix))
        return []

    def folders(self) -> list[str]:
        """Names of the folders directly below."""
        if self.local is not None:
            return sorted(p.name for p in self.local.iterdir() if p.is_dir()) if self.local.is_dir() else []
        with storage_errors(self.url):
            self.fs.invalidate_cache(self.root)
            try:
                infos = self.fs.ls(self.root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(i["name"].rstrip("/").rsplit("/", 1)[-1] for i in infos if i["type"] == "directory")

    def exists(self, name: str) -> bool:
        if self.local is not None:
            return (self.local / name).exists()
        with storage_errors(self.url):
            self.fs.invalidate_cache(self.root)
            return bool(self.fs.exists(self.path(name)))

    def size(self, name: str) -> int:
        with storage_errors(self.path(name)):
            return int(self.fs.size(self.path(name)))

    def read_bytes(self, name: str) -> bytes:
        with storage_errors(self.path(name)):
            return bytes(self.fs.cat_file(self.path(name)))

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; shorter only where the file ends."""
        with storage_errors(self.path(name)):
            if self.local is not None:
                with open(self.local / name, "rb") as file:
                    return os.pread(file.fileno(), length, offset)
            data = bytes(self.fs.cat_file(self.path(name), start=offset, end=offset + length))
        if len(data) > length:
            raise StorageError(f"{self.path(name)}: asked for {length} bytes, its server gives all: it knows no ranges")
        return data

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as error:
            raise StorageError(f"{self.path(name)} is not JSON: {error}") from None

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with storage_errors(self.path(name)):
            try:
                if self.local is not None:  # a third less work than through a Python file: fragments are many
                    with pq.ParquetFile(self.local / name) as parquet:
                        return parquet.read(columns=columns)
                with self.fs.open(self.path(name), "rb") as file:
                    return pq.ParquetFile(file).read(columns=columns)
            except pa.ArrowInvalid as error:
                raise StorageError(f"{self.path(name)} is not readable as Parquet: {error}") from None

    def read_schema(self, name: str) -> pa.Schema:
        """Schema of a Parquet file."""
        with storage_errors(self.path(name)), self.fs.open(self.path(name), "rb") as file:
            try:
                return pq.ParquetFile(file).schema_arrow
            except pa.ArrowInvalid as error:
                raise StorageError(f"{self.path(name)} is not readable as Parquet: {error}") from None

    # -- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local path to write to; when the block ends well, the file appears under `name`, whole."""
        temp = self.temp(name)
        try:
            with storage_errors(self.path(name)):
                yield temp
            self.commit(temp, name)
        finally:
            temp.unlink(missing_ok=True)

    def temp(self, name: str) -> Path:
        """A new temporary local path for what will become `name`."""
        base = Path(tempfile.gettempdir())
        if self.local is not None:
            base = (self.local / name).parent
            with storage_errors(self.path(name)):
                base.mkdir(parents=True, exist_ok=True)
        return base / f"{Path(name).name}{TEMP_MARK}{os.getpid()}-{uuid4().hex[:8]}"

    def commit(self, temp: Path, name: str) -> None:
        """Make `temp` appear as `name`: fsync and rename, or PUT."""
        with storage_errors(self.path(name)):
            if self.local is None:
                self.fs.put_file(str(temp), self.path(name))
                temp.unlink()
                return
            with open(temp, "rb") as file:
                os.fsync(file.fileno())
            target = self.local / name
            os.rename(temp, target)
            directory = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def write_bytes(self, name: str, data: bytes) -> None:
        with self.writing(name) as path:
            path.write_bytes(data)

    def write_json(self, name: str, value: Any) -> None:
        """JSON with sorted keys: the same value gives the same bytes."""
        self.write_bytes(name, (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode())

    def write_table(self, name: str, table: pa.Table) -> None:
        with self.writing(name) as path:
            # Most strings are unique, and zstd finds the others' repeats: dictionaries cost time and space here.
            pq.write_table(table, path, compression="zstd", use_dictionary=False)

    def delete(self, name: str) -> None:
        with storage_errors(self.path(name)):
            self.fs.rm_file(self.path(name))


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn errors of the file system into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"no space left on the device while writing {what}") from error
        raise StorageError(f"{what}: {error.strerror or error}") from error
    except aiohttp.ClientError as error:  # fsspec's HTTP file system lets them through
        raise StorageError(f"{what}: {error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "botocore":  # s3fs lets those without an answer through
            raise
        raise StorageError(f"{what}: {error}") from error
