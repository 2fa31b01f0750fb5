"""A stage that leaves given tables, one a fragment: what select reads in these tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from curation.config import SelectSettings
from curation.fragments import Counts, Fragment, conform, outcome_schema
from curation.row import FETCH_FIELDS, KEPT, SOURCE_FIELDS, with_outcomes
from curation.select.stage import Select
from curation.stage import Solo
from curation.storage import Folder

EXTRA = (pa.field("aesthetic", pa.float32()),)
SCHEMA = outcome_schema(SOURCE_FIELDS, FETCH_FIELDS, EXTRA)


class Given(Solo):
    name: ClassVar[str] = "fetch"

    def __init__(self, output: Folder, tables: list[pa.Table]) -> None:
        super().__init__(output, None, {})
        self._tables = tables

    @property
    def schema(self) -> pa.Schema:
        return self._tables[0].schema

    def build(self) -> list[Fragment]:
        fragments = []
        for i, table in enumerate(self._tables):
            name = f"p{i:06d}-00000000-end.parquet"
            self.folder.write_table(name, table)
            fragments.append(Fragment(name, Counts.of(table)))
        return fragments


def uid(i: int) -> str:
    return f"{i:032x}"


def sha(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def rows(**columns: list[Any]) -> pa.Table:
    """Kept rows of fetch, all different, with the given columns; uids count from 0 unless given."""
    n = len(next(iter(columns.values())))
    ordinary = {
        "uid": [uid(i) for i in range(n)],
        "source": ["list"] * n,
        "url": [f"http://example.com/{i}.jpg" for i in range(n)],
        "alt_text": [f"picture {i}" for i in range(n)],
        "width": [1000] * n,
        "height": [1000] * n,
        "length": [50_000] * n,
        "source_sha256": [sha(("bytes", i)) for i in range(n)],
        "pixel_sha256": [sha(("pixels", i)) for i in range(n)],
        "tar": ["p000000-00000000.tar"] * n,
    }
    given = {name: pa.array(v, SCHEMA.field(name).type) for name, v in {**ordinary, **columns}.items()}
    return conform(with_outcomes(pa.table(given), [KEPT] * n), SCHEMA)


def select(folder: Path | str, tables: list[pa.Table] | pa.Table, **settings: Any) -> Select:
    """Select over these tables, run."""
    given = Given(Folder(f"{folder}/given"), tables if isinstance(tables, list) else [tables])
    given.run()
    stage = Select(Folder(f"{folder}/out"), given, SelectSettings.model_validate(settings))
    stage.run()
    return stage


def ledger(stage: Select) -> dict[str, dict[str, Any]]:
    """Every row that the stage's manifest names, by uid."""
    manifest = stage.manifest()
    assert manifest is not None
    found = [row for f in manifest.fragments for row in stage.folder.read_table(f.name).to_pylist()]
    by_uid = {row["uid"]: row for row in found}
    assert len(by_uid) == len(found), "a row stands twice"
    return by_uid


def reasons(stage: Select) -> dict[int, str | None]:
    """Reason by the number that the uid counts; None for rows that stay."""
    return {int(name, 16): row["reason"] for name, row in sorted(ledger(stage).items())}


def details(stage: Select) -> dict[int, str | None]:
    return {int(name, 16): row["detail"] for name, row in sorted(ledger(stage).items())}
