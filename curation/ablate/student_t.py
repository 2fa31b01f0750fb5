"""Student's t distribution, for intervals over few seeds: probability and quantile, without SciPy."""

from __future__ import annotations

import math

import numpy as np

PRECISION = 1e-9
"""Of a probability by `t_cdf`, for 1 ≤ df ≤ 10⁴."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def t_cdf(t: float, df: float) -> float:
    """P(T ≤ t) for `df` > 0 degrees of freedom, whole or not.

    With t = √df tan θ the density becomes Γ((df+1)/2) / (√π Γ(df/2)) cos^(df-1) θ, whose integral from 0 is taken
    numerically, to `PRECISION`.
    """
    end = math.atan(abs(t) / math.sqrt(df))
    theta = end / 2 * (_NODES + 1)
    front = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    half = front * end / 2 * float(_WEIGHTS @ np.cos(theta) ** (df - 1))
    return 0.5 + math.copysign(min(half, 0.5), t)


def t_quantile(probability: float, df: float) -> float:
    """The t with P(T ≤ t) = `probability`, in (0, 1), by bisection."""
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < probability and high < 1e9:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < probability else (low, middle)
    return (low + high) / 2
