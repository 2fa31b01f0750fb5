"""Random choices that are the same on every machine and Python version; all seeds of the embedded world go through it.

Only `random.Random.random()` of the standard library is promised to keep its sequence, so all choices are made from it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of choices that is a pure function of the words it was made from."""

    def __init__(self, *words: object) -> None:
        self._random = random.Random("/".join(str(word) for word in words))

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return self._random.random()

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self._random.random()

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`, all equally likely."""
        return items[int(self._random.random() * len(items))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One of the keys, as likely as its weight says."""
        mark = self._random.random() * sum(weights.values())
        items = list(weights)
        for item in items[:-1]:
            mark -= weights[item]
            if mark < 0:
                return item
        return items[-1]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All of `items` in a random order (Fisher and Yates 1938)."""
        out = list(items)
        for last in range(len(out) - 1, 0, -1):
            other = int(self._random.random() * (last + 1))
            out[last], out[other] = out[other], out[last]
        return out
