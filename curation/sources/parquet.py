"""Parquet lists, read by DuckDB: only the wanted columns, and only the row groups that can pass `where`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation.config import SourceSettings
from curation.errors import SourceError
from curation.sources.files import READ_ERRORS, SourceFile, find_files
from curation.sources.query import Query
from curation.sources.scratch import Scratch, scratch_errors
from curation.sql import literal, message


def open_parquet(settings: SourceSettings, setting: str, scratch: Scratch) -> Query:
    """The list. Raises ConfigError for a wrong setting, SourceError for a file that is no Parquet."""
    scan = ParquetScan.of(find_files(settings.path, "parquet", setting), scratch)
    return Query(scratch, scan.sql(), settings, setting, explain_fault=scan.blame)


@dataclass(frozen=True)
class ParquetScan:
    """Parquet files, in their order; they may differ in columns and in the width of numbers."""

    files: Mapping[str, SourceFile]
    """By the path under which DuckDB reads them."""

    @classmethod
    def of(cls, files: Sequence[SourceFile], scratch: Scratch) -> ParquetScan:
        """Local files, files that DuckDB reads through fsspec, or (from a plain web server) copies of them."""
        fs = files[0].fs
        if files[0].local:
            return cls({f.url: f for f in files})
        try:
            fs.modified(files[0].path)  # DuckDB asks for it, to trust what it has read once
        except NotImplementedError:
            return cls({_copy(f, i, scratch): f for i, f in enumerate(files)})
        names = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
        if not any(scratch.con.filesystem_is_registered(name) for name in names):
            scratch.con.register_filesystem(fs)
        return cls({f.url: f for f in files})

    def sql(self, options: str = "") -> str:
        """FROM item."""
        paths = ", ".join(literal(_no_glob(path)) for path in self.files)
        return f"read_parquet([{paths}], union_by_name = true{options})"

    def blame(self, error: duckdb.Error) -> Exception:
        """The error to raise after DuckDB failed: it names the file at fault, which DuckDB does not always do.

        Reads footers first, then whole files, and only once something has failed.
        """
        for whole in (False, True):
            for path, file in self.files.items():
                try:
                    with file.open() if "://" in path else open(path, "rb") as source:
                        parquet = pq.ParquetFile(source)
                        if whole:
                            for _ in parquet.iter_batches():
                                pass
                except (pa.ArrowException, *READ_ERRORS) as fault:
                    return SourceError(f"{file.url} is not readable as Parquet: {' '.join(str(fault).split())}")
        return SourceError(message(error))


def _copy(file: SourceFile, number: int, scratch: Scratch) -> str:
    """Path of a local copy."""
    path = scratch.folder / f"list-{number}.parquet"
    with file.open() as source, scratch_errors(), path.open("wb") as target:
        try:
            shutil.copyfileobj(source, target, 1 << 20)
        except READ_ERRORS as error:
            raise SourceError(f"{file.url}: {error}") from error
    return str(path)


def _no_glob(path: str) -> str:
    """`path` with DuckDB's wildcards made literal."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
