"""What the stage encode stored: how many samples, how large. How fast it was is told by the stage's own time."""

from __future__ import annotations

from typing import Any

from curation.report.distributions import stage_settings
from curation.report.model_facts import EncodingFacts
from curation.report.tables import StageTable, Tables


def encoding(tables: Tables, encode: StageTable, config: dict[str, Any]) -> EncodingFacts:
    """Facts of the encode stage, finished or not."""
    settings = stage_settings(config, "encode")
    ((samples, tensors, shards),) = tables.query(
        "SELECT count(*), coalesce(sum(encoded_length), 0)::BIGINT, coalesce(sum(packed.length), 0)::BIGINT "
        f"FROM {encode.view} WHERE outcome = 'kept'"
    )
    return EncodingFacts(
        samples=samples,
        tensor_bytes=tensors,
        shard_bytes=shards,
        model=str(settings.get("model") or ""),
        vae=str(settings.get("vae") or ""),
        dtype=str(settings.get("dtype") or ""),
        semantic=_model(settings.get("semantic")),
        text=_model(settings.get("text")),
        latents=bool(settings.get("latents", True)),
        kinds=tuple(map(str, settings.get("texts") or ())),
        images=bool(settings.get("images")),
    )


def _model(part: Any) -> str:
    """The name of a part of a Würstchen; "" where there is none."""
    return str(part.get("model") or "") if isinstance(part, dict) else ""
