"""Stage identity: a digest of everything that changes a stage's result, and of nothing that changes only its speed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def result_settings(settings: BaseModel) -> dict[str, Any]:
    """A stage's settings as plain data, without `run` (speed only)."""
    return settings.model_dump(mode="json", exclude={"run"})


def fingerprint(stage: str, identity: dict[str, Any], upstream: str | None) -> str:
    """12 hex digits of SHA-256 over the stage's name, its identity (settings, versions, inputs) and its upstream's."""
    text = json.dumps([stage, identity, upstream], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
