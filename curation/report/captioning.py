"""What the caption stage wrote: how long captions are, what captioning took, and what it cost.

A few aggregate queries; lengths come back as counts by length, so memory does not grow with the corpus.
"""

from __future__ import annotations

from typing import Any

from curation.pack.captions import ALT, caption_column
from curation.report.distributions import stage_settings
from curation.report.model_facts import CaptioningFacts, KindFacts
from curation.report.shapes import Lengths
from curation.report.tables import CAPTION_COLUMN, StageTable, Tables
from curation.sql import identifier

LONGEST = 4096
"""Words or tokens; longer captions count as this long."""
MAX_MODELS = 3
CLIP_TOKENS = 77


def captioning(tables: Tables, caption: StageTable, config: dict[str, Any]) -> CaptioningFacts:
    """Facts of the caption stage, finished or not."""
    settings = stage_settings(config, "caption")
    run = settings.get("run") or {}

    def column(name: str) -> str:
        return identifier(name) if name in caption.columns else "NULL"

    tries, tokens, us = (column(f"captioning_{what}") for what in ("tries", "tokens", "us"))
    ((tokens_written, us_spent, tried, retried, fused),) = tables.query(
        f"SELECT coalesce(sum({tokens}), 0)::BIGINT, coalesce(sum({us}), 0)::BIGINT, "
        f"count(*) FILTER ({tries} >= 1), count(*) FILTER ({tries} >= 2), "
        f"count(*) FILTER (outcome = 'kept' AND {column('captioning_fused')}) FROM {caption.view}"
    )
    limit = int(settings.get("token_limit") or CLIP_TOKENS)
    kinds = tuple(_kind(tables, caption, kind, limit) for kind in kinds_of(caption, settings))
    return CaptioningFacts(
        rows=caption.counts.rows,
        kept=caption.counts.kept,
        captions=sum(kind.captions for kind in kinds if kind.kind != ALT),
        tokens=tokens_written,
        worker_seconds=us_spent / 1e6,
        tried=tried,
        retried=retried,
        fused=fused,
        price_per_hour=float(run.get("price_per_hour") or 0) * float(run.get("gpus") or 1),
        token_limit=limit,
        word_ranges={kind: (int(low), int(high)) for kind, (low, high) in (settings.get("words") or {}).items()},
        kinds=kinds,
    )


def kinds_of(caption: StageTable, settings: dict[str, Any]) -> list[str]:
    """The kinds in the stage's table: the original, then those of the config in its order, then any others."""
    matches = map(CAPTION_COLUMN.fullmatch, caption.columns)
    there = {match["kind"] for match in matches if match and not match["of"]}
    asked = [kind for kind in settings.get("kinds") or () if kind in there]
    alt = [ALT] if "alt_text" in caption.columns else []
    return [*alt, *asked, *sorted(there - {*asked, ALT})]


def _kind(tables: Tables, caption: StageTable, kind: str, limit: int) -> KindFacts:
    name = caption_column(kind)
    text = identifier(name)
    has_text = f"outcome = 'kept' AND coalesce({text}, '') <> ''"
    models: list[tuple[Any, ...]] = []
    if f"{name}_model" in caption.columns:
        model = identifier(f"{name}_model")
        models = tables.query(
            f"SELECT {model} FROM {caption.view} WHERE {has_text} AND {model} IS NOT NULL "
            f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MAX_MODELS}"
        )
    # Spaces and one: splitting every caption takes ten times as long, and tells no more.
    words = _lengths(tables, caption, f"strlen({text}) - strlen(replace({text}, ' ', '')) + 1", has_text)
    tokens, over = Lengths(), 0
    if f"{name}_tokens" in caption.columns:
        counted = identifier(f"{name}_tokens")
        tokens = _lengths(tables, caption, counted, f"{has_text} AND {counted} IS NOT NULL")
        over = sum(n for length, n in tokens.counts if length > limit)
    return KindFacts(kind, tuple(model for (model,) in models), words.total, words, tokens, over)


def _lengths(tables: Tables, caption: StageTable, sql: str, where: str) -> Lengths:
    rows = tables.query(
        f"SELECT least({sql}, {LONGEST})::INTEGER, count(*) FROM {caption.view} WHERE {where} GROUP BY 1 ORDER BY 1"
    )
    return Lengths(tuple((length, n) for length, n in rows))
