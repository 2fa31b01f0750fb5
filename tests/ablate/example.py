"""A small ablation's settings, for the tests beside it."""

from __future__ import annotations

from typing import Any

from curation.config.ablate import AblateConfig
from curation.load import make

VERDICT: dict[str, Any] = {
    "primary": "rich.share",
    "minimum_effect": 0.03,
    "claims": [
        {"better": "few-high", "worse": "many-low"},
        {"factor": "resolution", "better": "high", "worse": "low"},
    ],
}


def settings(**changed: Any) -> dict[str, Any]:
    """A grid of amount × resolution and one single arm; `changed` replaces whole settings."""
    return {
        "name": "test",
        "output": "out",
        "base": {
            "source": {"kind": "parquet", "path": "list.parquet", "columns": {"alt_text": "TEXT"}},
            "stages": {"fetch": {"min_side": 64}, "pack": {"resolution": 64}},
        },
        "train": {
            "recipe": {"kind": "koala", "teacher": {"model": "m"}},
            "data": {"batch": 8},
            "optimizer": {"warmup": 10},
            "loop": {"steps": 100},
        },
        "arms": {"task_alone": {"train.recipe.losses": {"output": 0, "features": 0}}},
        "grid": {
            "amount": {"few": {"source.limit": 100}, "many": {"source.limit": 1700}},
            "resolution": {"high": None, "low": {"stages.pack.resolution": 16}},
        },
        "fairness": "equal_steps",
        "evaluation": {"kind": "scenes", "prompts": 32},
        "verdict": VERDICT,
        **changed,
    }


def example(**changed: Any) -> AblateConfig:
    return make(settings(**changed), model=AblateConfig)
