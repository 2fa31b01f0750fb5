"""Parquet lists, read by DuckDB: only the wanted columns, and only the row groups that can pass `where`."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation.config import SourceSettings
from curation.errors import SourceError
from curation.sources.files import SourceFile, find_files
from curation.sources.query import Query
from curation.sources.scratch import Scratch, literal, one_line


def open_parquet(settings: SourceSettings, setting: str, scratch: Scratch) -> Query:
    """The list. Raises ConfigError for a wrong setting, SourceError for a file that is no Parquet."""
    files = find_files(settings.path, "parquet", setting)

    def explain(error: duckdb.Error) -> Exception:
        return blame(files, error)

    return Query(scratch, scan_parquet(files, scratch), settings, setting, explain_fault=explain)


def scan_parquet(files: Sequence[SourceFile], scratch: Scratch, options: str = "") -> str:
    """FROM item over `files`, in their order; files may differ in columns and in the width of numbers."""
    fs = files[0].fs
    if not files[0].local:
        names = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
        if not any(scratch.con.filesystem_is_registered(name) for name in names):
            scratch.con.register_filesystem(fs)
    paths = ", ".join(literal(_no_glob(f.url)) for f in files)
    return f"read_parquet([{paths}], union_by_name = true{options})"


def _no_glob(path: str) -> str:
    """`path` with DuckDB's wildcards made literal."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def blame(files: Sequence[SourceFile], error: duckdb.Error) -> Exception:
    """The error to raise after DuckDB failed on `files`: it names the file at fault, which DuckDB does not always do.

    Reads footers first, then whole files, and only once something has failed.
    """
    message = one_line(error)
    for whole in (False, True):
        for file in files:
            try:
                with file.open() as source:
                    parquet = pq.ParquetFile(source)
                    if whole:
                        for _ in parquet.iter_batches():
                            pass
            except (pa.ArrowException, OSError) as fault:
                return SourceError(f"{file.url} is not readable as Parquet: {' '.join(str(fault).split())}")
    return SourceError(message)
