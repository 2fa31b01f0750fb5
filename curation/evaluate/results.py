"""What an evaluation found: a table [prompts × columns], and numbers of whole sets. Ablations compare two of these.

`to_json` writes plain JSON (NaN as null), which `from_json` reads back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from curation.evaluate.metric import Floats

ALL = "all"
"""Stands for the prompts of all kinds."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a column of scores, or a number of a set, is."""

    metric: str
    paper: str
    higher_is_better: bool | None
    """None where neither is: a ratio whose best is 1."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Of one model. Rows are prompts in the order in which they were given."""

    prompts: tuple[str, ...]
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    """Of each picture's noise."""
    scores: Mapping[str, Floats]
    """By column, float64 [prompts]; NaN where the prompt does not ask for it."""
    sets: Mapping[str, Mapping[str, float]]
    """By metric of sets and kind of prompt (`ALL` too), its number."""
    about: Mapping[str, About]
    """Of every column of `scores` and every metric of `sets`."""

    def mean(self, column: str, kind: str = ALL) -> float:
        """Mean over the prompts of `kind` that ask for it; NaN where none does. Raises KeyError for no such column."""
        scores = self.scores[column]
        chosen = scores[[kind in (ALL, own) for own in self.kinds]]
        chosen = chosen[~np.isnan(chosen)]
        return float(chosen.mean()) if len(chosen) else float("nan")

    def summary(self) -> dict[str, dict[str, float]]:
        """By column or metric of sets, then by kind: means and numbers of sets."""
        kinds = (*dict.fromkeys(self.kinds), ALL)
        means = {column: {kind: self.mean(column, kind) for kind in kinds} for column in self.scores}
        return means | {name: dict(values) for name, values in self.sets.items()}

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`, which needs no `allow_nan`."""
        return {
            "prompts": list(self.prompts),
            "kinds": list(self.kinds),
            "seeds": list(self.seeds),
            "scores": {column: [_null(score) for score in scores.tolist()] for column, scores in self.scores.items()},
            "sets": {name: {kind: _null(value) for kind, value in of.items()} for name, of in self.sets.items()},
            "about": {name: asdict(about) for name, about in self.about.items()},
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Results:
        """What `to_json` gave."""
        return cls(
            prompts=tuple(written["prompts"]),
            kinds=tuple(written["kinds"]),
            seeds=tuple(written["seeds"]),
            scores={column: np.array(scores, np.float64) for column, scores in written["scores"].items()},
            sets={name: {kind: _nan(value) for kind, value in of.items()} for name, of in written["sets"].items()},
            about={name: About(**about) for name, about in written["about"].items()},
        )


def _null(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
