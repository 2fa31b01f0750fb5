"""The source stage: lists of URLs, or images that are here already, become the first table of a run.

Called by the engines, in one process. Every row of every list comes out once: kept, or with the reason why not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b

import pyarrow as pa

from curation.config import SourceSettings
from curation.errors import ConfigError, SourceError
from curation.fragments import FRAGMENT, Fragment, FragmentWriter, conform, outcome_schema
from curation.row import KEPT, RESERVED, SOURCE_FIELDS, Reason, Verdict, with_outcomes
from curation.sources.naming import name_rows
from curation.sources.open import open_list
from curation.sources.query import RAW_FIELDS, UrlList
from curation.sources.scratch import Scratch
from curation.sources.spread import Spread
from curation.sql import fold
from curation.storage import TEMP_MARK, Folder
from curation.text import without_secrets

ROWS_PER_PARTITION = 1000
"""Rows of a partition, of lists of up to a million rows."""
MOST_PARTITIONS = 10_000
WRITERS = 4
"""Fragments written at once: on a disk they overlap fsyncs, on an object store round trips."""

_ROW_FIELDS = (*SOURCE_FIELDS, pa.field("reason", pa.string()), pa.field("detail", pa.string()))


def build_source(
    sources: Sequence[SourceSettings], folder: Folder, *, seed: int, scratch_memory: str = "256MB"
) -> list[Fragment]:
    """Write the rows of all `sources` as committed fragments into `folder`, a partition each; returns them in order.

    Columns: `SOURCE_FIELDS`, the `keep` columns of all sources, outcomes. The same lists and seed give the same
    fragments, names included. What an earlier, unfinished call left in `folder` is removed first. `scratch_memory`
    bounds the database that finds duplicates and sorts; it works in the system's temporary folder (TMPDIR). Raises
    ConfigError for a wrong setting, SourceError for a list that is unreadable or empty, StorageError.
    """
    _clear(folder)
    with Scratch(scratch_memory) as scratch:
        lists = [open_list(s, setting_path(sources, i), scratch) for i, s in enumerate(sources)]
        keep = keep_schema(sources, lists)
        raw = pa.schema([*RAW_FIELDS, *keep])
        row_schema = pa.schema([*_ROW_FIELDS, *keep])
        spread = Spread(scratch, row_schema)
        for settings, rows in zip(sources, lists, strict=True):
            before = spread.rows
            for batch in rows.batches():
                named, order = name_rows(conform(batch, raw), settings.name, seed)
                spread.add(conform(named, row_schema), order)
            if spread.rows == before:
                condition = f" where {settings.where}" if settings.where is not None else ""
                raise SourceError(f"source {settings.name} ({without_secrets(settings.path)}): no rows{condition}")
        return _write(spread, folder, outcome_schema(SOURCE_FIELDS, keep))


def setting_path(sources: Sequence[SourceSettings], index: int) -> str:
    """Dotted path of a source's settings: `source`, or `source.1` where there are several."""
    return "source" if len(sources) == 1 else f"source.{index}"


def rows_per_partition(rows: int) -> int:
    """1,000 up to a million rows; then growing with the root of the list, and so that there are never over 10,000."""
    return max(ROWS_PER_PARTITION, math.isqrt(rows), -(-rows // MOST_PARTITIONS))


def keep_schema(sources: Sequence[SourceSettings], lists: Sequence[UrlList]) -> pa.Schema:
    """The kept columns of all lists, numbers widened where lists differ. Raises ConfigError where types clash."""
    fields: dict[str, tuple[pa.Field, str]] = {}
    for i, (settings, rows) in enumerate(zip(sources, lists, strict=True)):
        setting = f"{setting_path(sources, i)}.columns.keep"
        for field in rows.keep:
            known, first = fields.get(field.name, (field, settings.name))
            try:
                both = pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                raise ConfigError(
                    setting, f"{field.name!r} is {field.type} here and {known.type} in source {first}"
                ) from None
            fields[field.name] = both.field(0), first
    folded = {fold(name): name for name in RESERVED}
    for name, (_, first) in fields.items():
        other = folded.setdefault(fold(name), name)
        if other != name:  # SQL takes the two for one column
            raise ConfigError(
                f"{setting_path(sources, [s.name for s in sources].index(first))}.columns.keep",
                f"{name!r} differs from the corpus's column {other!r} in nothing but case; rename it in the list",
            )
    return pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f, _ in fields.values()])


def _clear(folder: Folder) -> None:
    """Remove what a killed run left: a source is rebuilt whole."""
    for name in folder.sizes():
        if FRAGMENT.fullmatch(name) or TEMP_MARK in name:
            folder.delete(name)


def _write(spread: Spread, folder: Folder, schema: pa.Schema) -> list[Fragment]:
    fragments: list[Fragment] = []
    running: deque[Future[Fragment]] = deque()
    with ThreadPoolExecutor(WRITERS) as pool:
        try:
            for partition, rows in enumerate(_partitions(spread)):
                running.append(pool.submit(_commit, folder, partition, rows, schema))
                if len(running) > WRITERS:
                    fragments.append(running.popleft().result())
            fragments.extend(future.result() for future in running)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return fragments


def _partitions(spread: Spread) -> Iterator[pa.Table]:
    size = rows_per_partition(spread.rows)
    waiting: list[pa.Table] = []
    count = 0
    for rows, twice in spread.in_order():
        batch = rows.append_column("twice", twice)
        while count + batch.num_rows >= size:
            cut = size - count
            yield pa.concat_tables([*waiting, batch.slice(0, cut)])
            batch = batch.slice(cut)
            waiting, count = [], 0
        if batch.num_rows:
            waiting.append(batch)
            count += batch.num_rows
    if waiting:
        yield pa.concat_tables(waiting)


def _commit(folder: Folder, partition: int, rows: pa.Table, schema: pa.Schema) -> Fragment:
    reasons, details, twice = (rows[name].to_pylist() for name in ("reason", "detail", "twice"))
    verdicts = [_verdict(*row) for row in zip(reasons, details, twice, strict=True)]
    table = with_outcomes(rows.drop_columns(["twice"]), verdicts)
    token = blake2b("".join(table["uid"].to_pylist()).encode(), digest_size=4).hexdigest()
    writer = FragmentWriter(folder, partition, schema, token=token)
    writer.add(table)
    return writer.commit(end=True)


def _verdict(reason: str | None, detail: str | None, twice: bool) -> Verdict:
    if reason is not None:
        return Verdict(Reason(reason), detail or "")
    return Verdict(Reason.DUPLICATE_URL) if twice else KEPT
