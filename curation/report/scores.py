"""What the score stage measured: each score over all rows, those that select kept against those that it dropped, with
the thresholds of `select.where`; and what each operator took.

Select's kept rows carry their scores on, so a few dozen counts of each of the two stages tell all: no rows are joined.
"""

from __future__ import annotations

import math
from typing import Any

from curation.report.charts import nice_step
from curation.report.distributions import MEASURES, USER_BINS, Measure, count_bins, stage_settings
from curation.report.model_facts import OperatorSpeed, ScoreFacts, ScoringFacts, ThresholdFacts
from curation.report.shapes import Histogram
from curation.report.tables import StageTable, Tables
from curation.report.thresholds import Threshold, thresholds
from curation.row import SCORE_US
from curation.sql import fold, identifier

MAX_SCORES = 12

_SHARPNESS = next(measure for measure in MEASURES if measure.key == "sharpness")


def score_columns(tables: Tables, fetch: StageTable, score: StageTable) -> list[str]:
    """Number columns that score added, and `sharpness`, which fetch measures for it."""
    added = [name for name in tables.free_columns(score) if name not in fetch.columns][:MAX_SCORES]
    return added + [name for name in (_SHARPNESS.key,) if name in score.columns]


def scoring(
    tables: Tables, columns: list[str], score: StageTable, select: StageTable | None, config: dict[str, Any]
) -> ScoringFacts:
    """Facts of the score stage, finished or not.

    Args:
        columns: those of `score_columns`.
        select: the stage after it; None, or without a manifest, while it has not decided.
    """
    limits = thresholds(stage_settings(config, "select").get("where"))
    decided = select if select is not None and select.manifest is not None else None
    found = [_score(tables, name, score, decided, limits.get(fold(name), ())) for name in columns]
    return ScoringFacts(tuple(facts for facts in found if facts is not None), _speeds(tables, score))


def _score(
    tables: Tables, name: str, score: StageTable, decided: StageTable | None, limits: tuple[Threshold, ...]
) -> ScoreFacts | None:
    column = identifier(name)
    # NaN counts as null, as it does in select's rules.
    has_one = f"outcome = 'kept' AND {column} IS NOT NULL AND NOT isnan({column}::DOUBLE)"
    sides = "".join(f", count(*) FILTER ({column} {limit.sign} {limit.text})" for limit in limits)
    finite = f"FILTER (isfinite({column}::DOUBLE))"
    ((scored, low, high, *passing),) = tables.query(
        f"SELECT count(*), min({column}) {finite}::DOUBLE, max({column}) {finite}::DOUBLE{sides} "
        f"FROM {score.view} WHERE {has_one}"
    )
    if not scored or low is None:
        return None
    measure = _measure(name, low, high, limits)
    everyone = count_bins(tables, measure, score, has_one)
    kept = count_bins(tables, measure, decided, has_one) if decided and name in decided.columns else None
    return ScoreFacts(
        histogram=Histogram(
            measure.key,
            measure.title,
            measure.unit,
            measure.log,
            measure.edges,
            tuple(a - b for a, b in zip(everyone, kept, strict=True)) if kept else everyone,
            kept or (0,) * measure.bins,
            tuple((limit.value, limit.label) for limit in limits),
        ),
        scored=scored,
        kept=None if kept is None else sum(kept),
        missing=score.counts.kept - scored,
        thresholds=tuple(ThresholdFacts(limit.label, n) for limit, n in zip(limits, passing, strict=True)),
    )


def _measure(name: str, low: float, high: float, limits: tuple[Threshold, ...]) -> Measure:
    """Bins of a round width, over all scores and thresholds."""
    if name == _SHARPNESS.key:
        return _SHARPNESS
    ends = [low, high, *(limit.value for limit in limits)]
    low, high = min(ends), max(ends)
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = nice_step((high - low) / USER_BINS)
    # The first threshold is an edge between bins: none holds rows of both its sides.
    start = limits[0].value if limits else 0.0
    first, last = math.floor((low - start) / step), math.floor((high - start) / step) + 1
    low, high = start + first * step, start + last * step
    column = identifier(name)
    # Infinite scores stand in the outer bins.
    sql = f"greatest(least({column}::DOUBLE, {high!r}), {low!r})"
    return Measure(f"column:{name}", name, "", sql, (name,), low, high, last - first)


def _speeds(tables: Tables, score: StageTable) -> tuple[OperatorSpeed, ...]:
    """Time of each operator, longest first."""
    if SCORE_US.name not in score.columns:
        return ()
    rows = tables.query(
        f"SELECT u.op, count(*), coalesce(sum(u.us), 0)::BIGINT FROM (SELECT unnest({SCORE_US.name}) AS u "
        f"FROM {score.view}) GROUP BY u.op ORDER BY 3 DESC, 1"
    )
    return tuple(OperatorSpeed(op, images, us / 1e6) for op, images, us in rows if op is not None)
