"""Where a row's captions stand: one column a kind. The original text is the kind `alt`."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from curation.config import Config, PackSettings
from curation.errors import ConfigError

ALT = "alt"
_COLUMN = re.compile(r"caption_(?P<kind>[a-z0-9]+)")


def caption_column(kind: str) -> str:
    """The column that holds captions of `kind`. Beside it may stand `…_model`, `…_tokens`, `…_similarity`."""
    return "alt_text" if kind == ALT else f"caption_{kind}"


def caption_kinds(schema: pa.Schema, primary: str) -> tuple[str, ...]:
    """All kinds in a table of `schema`, the primary one first, the others sorted.

    Raises ConfigError if there is no caption of the kind `primary`.
    """
    found = [match["kind"] for f in schema if (match := _COLUMN.fullmatch(f.name)) and _is_text(f.type)]
    kinds = sorted(kind for kind in [ALT, *found] if caption_column(kind) in schema.names)
    if primary not in kinds:
        raise ConfigError("stages.pack.primary", f"no stage writes captions of kind {primary!r}; there is {kinds}")
    return (primary, *(kind for kind in kinds if kind != primary))


def kinds_told(config: Config) -> tuple[str, ...] | None:
    """All kinds that the corpus of `config` can have, before anything has run; None where operators of one's own may
    write more."""
    stages, sources = config.stages, config.sources
    if stages.score is not None and any(":" in op for op in stages.score.ops):
        return None
    kept = [match["kind"] for source in sources for name in source.columns.keep if (match := _COLUMN.fullmatch(name))]
    images = any(source.kind in ("webdataset", "img2dataset") for source in sources)  # have texts of their own
    alt = [ALT] if images or any(source.columns.alt_text is not None for source in sources) else []
    return tuple(dict.fromkeys([*alt, *(stages.caption.kinds if stages.caption is not None else ()), *sorted(kept)]))


def check_told(config: Config) -> None:
    """Refuse a primary kind, or one to be encoded, that no stage will write and no list holds. Raises ConfigError."""
    there, stages = kinds_told(config), config.stages
    if there is None:
        return
    wanted = {"stages.pack.primary": [stages.pack.primary]}
    if stages.encode is not None:
        wanted["stages.encode.texts"] = [kind for kind in stages.encode.texts if kind != "primary"]
    for setting, kinds in wanted.items():
        for kind in kinds:
            if kind not in there:
                why = "no stage writes such captions"
                if kind == ALT:
                    why = "no source names `columns.alt_text` (a list without texts needs stages.caption)"
                raise ConfigError(setting, f"{kind!r}: {why}; there is {', '.join(there) or 'none'}")


def _is_text(kind: pa.DataType) -> bool:
    """A scorer's number of words, `caption_words`, is no caption."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def check_primary(settings: PackSettings, schema: pa.Schema) -> None:
    """Refuse a primary kind of caption that a table of `schema` has not. Raises ConfigError."""
    caption_kinds(schema, settings.primary)


def caption_of(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """One caption as it stands in `UID.json`; `row` holds no nulls (`plain.py`). Tokens are -1 until counted."""
    column = caption_column(kind)
    text = row[column]
    return {
        "kind": kind,
        "model": row.get(f"{column}_model", ""),
        "text": text,
        "tokens": row.get(f"{column}_tokens", -1),
        "words": len(text.split()),
    }
