"""Effects of a grid's factors and of their interplay, as contrasts over its arms.

A contrast has one weight an arm. A main effect is the mean over the arms at one level less the mean over those at the
factor's first level; an interaction of two is how much larger the first factor's effect is at the second's other level
(a difference of differences), of three how much larger that is at the third's. (Half of it, or a quarter, is what some
textbooks call by the same name.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A contrast over the arms of a grid."""

    factors: tuple[str, ...]
    """One: a main effect. Several: their interaction."""
    levels: tuple[str, ...]
    """The level of each that is compared with its first."""
    weights: tuple[float, ...]
    """One for each arm; 0 outside the grid."""


def factorial_effects(
    arms: Sequence[Mapping[str, str]], grid: Mapping[str, Sequence[str]], order: int = 3
) -> tuple[Effect, ...]:
    """All main effects, then interactions of two and more factors, up to `order`.

    `arms` are the levels of each arm by factor, empty for one that is not of the grid; `grid` names each factor's
    levels, the first of which is compared with.
    """
    found = []
    for size in range(1, min(order, len(grid)) + 1):
        for factors in combinations(grid, size):
            for levels in product(*(grid[factor][1:] for factor in factors)):
                pairs = {f: (level, grid[f][0]) for f, level in zip(factors, levels, strict=True)}
                found.append(Effect(factors=factors, levels=levels, weights=compare(arms, pairs)))
    return tuple(found)


def compare(arms: Sequence[Mapping[str, str]], pairs: Mapping[str, tuple[str, str]]) -> tuple[float, ...]:
    """Weights of (first level less second) of each factor in `pairs`, averaged over the levels of all others."""
    weights = np.zeros(len(arms))
    for index, levels in enumerate(arms):
        if levels:
            signs = [(levels[factor] == one) - float(levels[factor] == other) for factor, (one, other) in pairs.items()]
            weights[index] = np.prod(signs)
    return tuple(float(w) for w in weights / (np.abs(weights).sum() / 2 ** len(pairs)))
