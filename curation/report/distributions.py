"""How the images are distributed, before and after curation: histograms of single measures, and sides as a heat map.

One scan of a stage's fragments each, in DuckDB; what comes back is a few dozen counts, whatever the corpus's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from curation.report.shapes import Heat, Histogram
from curation.report.tables import StageTable, Tables
from curation.report.thresholds import thresholds
from curation.sql import fold, identifier

HEAT_STEPS = 4
HEAT_SIDES = (3 * HEAT_STEPS, 14 * HEAT_STEPS)
"""Sides from 8 to 16,384 pixels; others are in the outer bins."""
MAX_USER_COLUMNS = 6
USER_BINS = 30


@dataclass(frozen=True)
class Measure:
    """What a histogram counts: an SQL expression over a stage's columns, and its fixed bins."""

    key: str
    title: str
    unit: str
    sql: str
    columns: tuple[str, ...]
    low: float
    high: float
    bins: int
    log: bool = False
    optional: tuple[str, ...] = ()
    """Those of `columns` that may be null in a row that counts."""

    @property
    def edges(self) -> tuple[float, ...]:
        if self.log:
            span = math.log2(self.high / self.low)
            return tuple(self.low * 2 ** (span * i / self.bins) for i in range(self.bins + 1))
        return tuple(self.low + (self.high - self.low) * i / self.bins for i in range(self.bins + 1))


MEASURES = (
    Measure("short_side", "Shorter side", "px", "least(width, height)", ("width", "height"), 16, 16384, 40, log=True),
    Measure(
        "megapixels", "Resolution", "MP", "width::DOUBLE * height / 1e6", ("width", "height"), 2**-8, 2**8, 32, log=True
    ),
    Measure(
        "aspect",
        "Aspect ratio",
        "width : height",
        "width::DOUBLE / height",
        ("width", "height"),
        1 / 8,
        8,
        36,
        log=True,
    ),
    Measure(
        "bytes",
        "File size",
        "B",
        "coalesce(bytes_received, 0) + coalesce(bytes_saved, 0)",
        ("bytes_received", "bytes_saved", "width"),
        1000,
        1000 * 2**16,
        32,
        log=True,
        optional=("bytes_saved",),
    ),
    Measure("sharpness", "Sharpness", "", "sharpness", ("sharpness",), 1, 2**15, 30, log=True),
    Measure(
        "caption_words",
        "Original caption",
        "words",
        # Spaces and one: splitting every caption takes ten times as long, and tells no more.
        "CASE WHEN coalesce(alt_text, '') = '' THEN 0 "
        "ELSE strlen(alt_text) - strlen(replace(alt_text, ' ', '')) + 1 END",
        ("alt_text", "width"),
        0,
        60,
        30,
        optional=("alt_text",),
    ),
)


def histograms(
    tables: Tables,
    before: StageTable,
    after: StageTable,
    config: dict[str, Any],
    without: frozenset[str] = frozenset(),
) -> tuple[Histogram, ...]:
    """The fixed measures, and the numeric columns that the list brought along.

    Args:
        before: the fetch stage; rows whose image header was read count.
        after: the last stage; its kept rows count.
        without: columns that are shown elsewhere.
    """
    limits = _limits(config)
    found: list[Histogram] = []
    measures = [m for m in MEASURES if m.key not in without]
    for measure in [*measures, *_user_measures(tables, before, without), *_user_measures(tables, after, without)]:
        if measure.key not in {h.key for h in found} and set(measure.columns) <= before.columns | after.columns:
            measured = _histogram(tables, measure, before, after, limits.get(fold(measure.key), ()))
            if sum(measured.before):
                found.append(measured)
    return tuple(found)


def _histogram(
    tables: Tables, measure: Measure, before: StageTable, after: StageTable, limits: tuple[tuple[float, str], ...]
) -> Histogram:
    has_column = (
        set(measure.columns) <= before.columns
    )  # a score, say, comes after fetch: all rows are those of its end
    measured = " AND ".join(f"{identifier(c)} IS NOT NULL" for c in measure.columns if c not in measure.optional)
    kept = f"outcome = 'kept' AND {measured}"
    everyone = count_bins(tables, measure, before, measured) if has_column else ()
    chosen = count_bins(tables, measure, after, kept) if set(measure.columns) <= after.columns else (0,) * measure.bins
    return Histogram(
        measure.key,
        measure.title,
        measure.unit,
        measure.log,
        measure.edges,
        everyone or chosen,
        chosen,
        limits,
    )


def count_bins(tables: Tables, measure: Measure, table: StageTable, where: str) -> tuple[int, ...]:
    """Rows of `table` in each bin of `measure`."""
    if measure.log:
        scale = measure.bins / math.log2(measure.high / measure.low)
        place = f"log2(greatest(({measure.sql})::DOUBLE, {measure.low!r}) / {measure.low!r}) * {scale!r}"
    else:
        scale = measure.bins / (measure.high - measure.low)
        place = f"(({measure.sql})::DOUBLE - {measure.low!r}) * {scale!r}"
    # 1e-9: an edge that is a whole number belongs to the bin that it opens, also after rounding.
    bin_sql = f"greatest(0, least({measure.bins - 1}, floor({place} + 1e-9)))::INTEGER"
    counts = [0] * measure.bins
    for bin_, count in tables.query(
        f"SELECT bin, count(*) FROM (SELECT {bin_sql} AS bin FROM {table.view} WHERE {where}) "
        "WHERE bin IS NOT NULL GROUP BY bin"
    ):
        counts[bin_] = count
    return tuple(counts)


def _user_measures(tables: Tables, table: StageTable, without: frozenset[str]) -> list[Measure]:
    """Numeric columns that are not the project's own."""
    measures = []
    for name in [name for name in tables.free_columns(table) if name not in without][:MAX_USER_COLUMNS]:
        column = identifier(name)
        finite = f"{column} IS NOT NULL AND isfinite({column}::DOUBLE)"
        ((low, high),) = tables.query(
            f"SELECT min({column})::DOUBLE, max({column})::DOUBLE FROM {table.view} WHERE {finite}"
        )
        if low is not None and low < high:
            sql = f"CASE WHEN isfinite({column}::DOUBLE) THEN {column} END"
            needs = (name, "width") if "width" in table.columns else (name,)
            measures.append(Measure(f"column:{name}", name, "", sql, needs, low, high, USER_BINS))
    return measures


def heat(tables: Tables, before: StageTable, after: StageTable, config: dict[str, Any]) -> Heat | None:
    """Images over width and height; None where no header was read."""
    if not {"width", "height"} <= before.columns:
        return None
    low, high = HEAT_SIDES

    def side(column: str) -> str:
        return (
            f"greatest({low}, least({high}, floor(log2(greatest({column}, 1)::DOUBLE) * {HEAT_STEPS} + 1e-9)))::INTEGER"
        )

    def count(table: StageTable, where: str) -> dict[tuple[int, int], int]:
        if not {"width", "height"} <= table.columns:
            return {}
        rows = tables.query(
            f"SELECT {side('width')} AS x, {side('height')} AS y, count(*) FROM {table.view} "
            f"WHERE width > 0 AND height > 0 AND {where} GROUP BY x, y ORDER BY x, y"
        )
        return {(x, y): n for x, y, n in rows}

    everyone = count(before, "true")
    fetch = stage_settings(config, "fetch")
    return (
        Heat(
            HEAT_STEPS,
            everyone,
            count(after, "outcome = 'kept'"),
            int(fetch.get("min_side") or 0),
            fetch.get("max_aspect"),
        )
        if everyone
        else None
    )


def stage_settings(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A stage's settings in the run's config; empty where it has none."""
    return (config.get("stages") or {}).get(name) or {}


def _limits(config: dict[str, Any]) -> dict[str, tuple[tuple[float, str], ...]]:
    """Thresholds of the config by measure (folded): those of fetch, and comparisons in select's `where`."""
    fetch = stage_settings(config, "fetch")
    limits: dict[str, tuple[tuple[float, str], ...]] = {}
    if fetch.get("min_side"):
        limits["short_side"] = ((fetch["min_side"], f"≥ {fetch['min_side']}"),)
    if fetch.get("max_aspect"):
        widest = float(fetch["max_aspect"])
        limits["aspect"] = ((1 / widest, f"1 : {widest:g}"), (widest, f"{widest:g} : 1"))
    if fetch.get("min_bytes"):
        limits["bytes"] = ((fetch["min_bytes"], "min_bytes"),)
    for column, found in thresholds(stage_settings(config, "select").get("where")).items():
        key = column if column == "sharpness" else f"column:{column}"
        limits[key] = tuple((threshold.value, threshold.label) for threshold in found)
    return limits
