"""The sign test over seeds, and Holm's adjustment of several p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence


def sign_test(differences: Sequence[float]) -> float:
    """Exact two-sided p-value of "as often above 0 as below"; zeros are left out (Dixon & Mood 1946).

    5 seeds can give no less than 2 / 2⁵ = 0.0625, however large the difference; 6 are the fewest that reach 0.05.
    """
    above, below = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    count, fewer = above + below, min(above, below)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(fewer + 1)) * 0.5**count)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: that any true hypothesis falls below α has probability at most α.

    The k-th smallest of m is multiplied by m + 1 - k, and none is less than the one before (Holm 1979).
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
