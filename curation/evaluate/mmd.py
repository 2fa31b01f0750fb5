"""Maximum mean discrepancy between two sets of features (Gretton et al. 2012). `kid` and `cmmd` are kernels of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from curation.evaluate.metric import Floats

Kernel = Callable[[Floats, Floats], Floats]
"""Features [N, D] and [M, D] → [N, M]."""
BLOCK = 1024
"""Rows of a kernel's matrix in memory at once."""


def unbiased_mmd2(x: npt.ArrayLike, y: npt.ArrayLike, kernel: Kernel) -> float:
    """MMD² of samples x [N, D] and y [M, D] without bias (Gretton et al. 2012, eq. 3); it can be under 0.

    Raises ValueError for other shapes, or for fewer than two rows.
    """
    x, y = _features(x, y, least=2)
    (of_x, of_x_itself), (of_y, of_y_itself) = _sums(x, x, kernel), _sums(y, y, kernel)
    between, _ = _sums(x, y, kernel)
    n, m = len(x), len(y)
    within = (of_x - of_x_itself) / (n * (n - 1)) + (of_y - of_y_itself) / (m * (m - 1))
    return within - 2 * between / (n * m)


def biased_mmd2(x: npt.ArrayLike, y: npt.ArrayLike, kernel: Kernel) -> float:
    """MMD² between the two samples taken for the whole (Gretton et al. 2012, eq. 5): 0 for equal sets, never under 0.

    Raises ValueError for other shapes than [N, D] and [M, D], or for no rows.
    """
    x, y = _features(x, y, least=1)
    within = _sums(x, x, kernel)[0] / len(x) ** 2 + _sums(y, y, kernel)[0] / len(y) ** 2
    return within - 2 * _sums(x, y, kernel)[0] / (len(x) * len(y))


def _features(x: npt.ArrayLike, y: npt.ArrayLike, least: int) -> tuple[Floats, Floats]:
    one, other = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < least:
        raise ValueError(f"features are [N, D] and [M, D], N and M at least {least}, not {one.shape} and {other.shape}")
    return one, other


def _sums(x: Floats, y: Floats, kernel: Kernel) -> tuple[float, float]:
    """Of the kernel's matrix: of all of it, and of its diagonal."""
    whole = diagonal = 0.0
    for start in range(0, len(x), BLOCK):
        rows = kernel(x[start : start + BLOCK], y)
        whole += float(rows.sum())
        diagonal += float(np.trace(rows, offset=start))
    return whole, diagonal
