"""An ablation small enough to be run by tests: two arms over a list of URLs, two seeds, a tiny teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.config.ablate import AblateConfig
from pipelines.ablate import Ablated, Watcher


def whole(listed: Path | str, teacher: Path | str, output: Path | str, **changed: Any) -> dict[str, Any]:
    """`changed` replaces whole settings."""
    return {
        "name": "tiny",
        "output": str(output),
        "seeds": 2,
        "base": {
            "source": {"kind": "parquet", "path": str(listed), "columns": {"url": "URL", "alt_text": "TEXT"}},
            "stages": {
                "fetch": {"allow_networks": ["127.0.0.0/8"], "retries": 0},
                "select": {"dedup": {"exact": "none"}},
                "pack": {"buckets": [[32, 32]], "format": "png"},
            },
        },
        "train": {
            "recipe": {
                "kind": "koala",
                "teacher": {"model": str(teacher), "sampling": {"steps": 1, "guidance": 1}},
                "student": {"transformer_layers": [1, 1, 1], "mid_block": False},
            },
            "data": {"batch": 4, "resolution": 32, "upscale": True},
            "optimizer": {"lr": 1e-3},
            "loop": {"steps": 4, "log_every": 1, "checkpoint_every": 2, "keep": 1},
        },
        "arms": {
            "many-low": {"stages.pack.buckets": [[8, 8]]},
            "few-high": {"stages.select.top": 12, "stages.select.by": "length(url)"},
        },
        "fairness": "equal_steps",
        "evaluation": {"kind": "scenes", "prompts": 6},
        "verdict": {
            "primary": "rich.share",
            "minimum_effect": 0.03,
            "claims": [{"better": "few-high", "worse": "many-low"}],
            "secondaries": ["short.share", "rich.kid"],
        },
        **changed,
    }


class Heard(Watcher):
    """Keeps what it heard."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []
        self.done_before = 0

    def students(self, total: int, done: int) -> None:
        self.done_before = done

    def student(self, arm: str, pair: int) -> None:
        self.made.append((arm, pair))


@dataclass(frozen=True)
class Done:
    """A finished one."""

    config: AblateConfig
    found: Ablated
    heard: Heard
    requests: list[str]

    @property
    def arms(self) -> dict[str, Any]:
        return {arm["name"]: arm for arm in self.found.facts["arms"]}
