"""Builds a source stage from plain settings and reads it back whole, checking what holds for every source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.config import SourceSettings
from curation.fragments import Counts, Fragment
from curation.names import UID_PATTERN
from curation.sources.stage import build_source
from curation.storage import Folder

Settings = Mapping[str, Any]


def fragments_of(folder: Path | str, *settings: Settings, seed: int = 0) -> list[Fragment]:
    """The fragments of one source, or of several, written to `folder`."""
    return build_source([SourceSettings(**s) for s in settings], Folder(folder), seed=seed)


def build(folder: Path | str, *settings: Settings, seed: int = 0) -> pa.Table:
    """The stage's table. Its fragments must be partitions 0, 1, …, and say themselves what they hold."""
    fragments = fragments_of(folder, *settings, seed=seed)
    tables = [Folder(folder).read_table(f.name) for f in fragments]
    assert [f.partition for f in fragments] == list(range(len(fragments)))
    assert [f.counts for f in fragments] == [Counts.of(t) for t in tables]
    table = pa.concat_tables(tables)
    assert all(UID_PATTERN.fullmatch(uid) for uid in table["uid"].to_pylist())
    kept = [
        uid
        for uid, outcome in zip(*(table[c].to_pylist() for c in ("uid", "outcome")), strict=True)
        if outcome == "kept"
    ]
    assert len(set(kept)) == len(kept)
    return table


def by_url(table: pa.Table) -> dict[str, dict[str, Any]]:
    """Live rows by URL."""
    return {row["url"]: row for row in table.to_pylist() if row["outcome"] == "kept"}


def reasons(table: pa.Table) -> dict[str | None, int]:
    """How many rows have each reason; None: kept."""
    return dict(Counter(table["reason"].to_pylist()))


def faults(table: pa.Table) -> list[str]:
    """The details of dropped rows, sorted."""
    return sorted(row["detail"] for row in table.to_pylist() if row["outcome"] != "kept")
