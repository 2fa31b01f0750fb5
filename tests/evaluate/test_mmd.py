"""MMD, KID and CMMD against sums by hand, exact expectations over all samples, and Gaussians' closed form."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from curation.evaluate import mmd
from curation.evaluate.cmmd import Cmmd, cmmd
from curation.evaluate.kid import Kid, kid
from curation.evaluate.mmd import biased_mmd2, unbiased_mmd2


def linear(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b.T


def normal(mean: float, spread: float, count: int = 1000) -> np.ndarray:
    """A normal distribution as its quantiles, [count, 1]: what chance would only come near to."""
    quantiles = NormalDist(mean, spread)
    return np.array([[quantiles.inv_cdf((i + 0.5) / count)] for i in range(count)])


def test_estimators_by_hand() -> None:
    x, y = [[1.0], [3.0]], [[0.0], [2.0], [4.0]]
    # xᵢxⱼ: 1 3 / 3 9; yᵢyⱼ: 0 0 0 / 0 4 8 / 0 8 16; xᵢyⱼ: 0 2 4 / 0 6 12
    assert unbiased_mmd2(x, y, linear) == pytest.approx(6 / 2 + 16 / 6 - 2 * 24 / 6)
    assert biased_mmd2(x, y, linear) == pytest.approx(16 / 4 + 36 / 9 - 2 * 24 / 6)
    assert biased_mmd2(x, y, linear) == pytest.approx((2 - 2) ** 2), "of a linear kernel: the means' distance squared"


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    whole = kid(x, y), cmmd(x, y)
    monkeypatch.setattr(mmd, "BLOCK", 2)
    assert (kid(x, y), cmmd(x, y)) == pytest.approx(whole, rel=1e-12)


def test_kid_by_hand() -> None:
    x, y = [[1.0, 1.0], [0.0, 2.0]], [[2.0, 0.0], [0.0, 0.0]]
    # (xᵀy / 2 + 1)³: within x 2³; within y 1³; between (2/2 + 1)³, 1³, 1³, 1³
    assert kid(x, y) == pytest.approx(8 + 1 - 2 * (8 + 1 + 1 + 1) / 4)
    assert kid(x, y, gamma=1) == pytest.approx(3**3 + 1 - 2 * (3**3 + 3) / 4)


def test_kid_has_no_bias() -> None:
    # Over all samples of two from {-1, 1} and of two from {0, 2} the mean is the populations' own MMD²:
    # Σ binom(3, k) (mₖ - nₖ)² of their moments m = (0, 1, 0), n = (1, 2, 4).
    first, second = (-1.0, 1.0), (0.0, 2.0)
    pairs = list(itertools.product(itertools.product(first, repeat=2), itertools.product(second, repeat=2)))
    found = [kid(np.array(x)[:, None], np.array(y)[:, None]) for x, y in pairs]
    assert np.mean(found) == pytest.approx(3 * 1 + 3 * 1 + 16)
    same = [
        kid(np.array(x)[:, None], np.array(y)[:, None])
        for x, y in itertools.product(itertools.product(second, repeat=2), repeat=2)
    ]
    assert np.mean(same) == pytest.approx(0, abs=1e-12)
    assert min(same) < 0 < max(same)


def test_kid_of_shifted_gaussians() -> None:
    x, y = normal(0, 1), normal(0.5, 1)
    # Moments of N(μ, 1): μ, μ² + 1, μ³ + 3μ.
    assert kid(x, y) == pytest.approx(3 * 0.5**2 + 3 * 0.25**2 + (0.125 + 1.5) ** 2, rel=0.03)
    # A set and itself are no independent samples: 2 (n · 4 - E (x² + 1)³) / (n - 1) - 2 · 4, with E (x² + 1)³ = 28.
    assert kid(x, x) == pytest.approx(-48 / 999, rel=0.05)


def test_cmmd_by_hand() -> None:
    x, y = [[0.0, 0.0], [6.0, 8.0]], [[0.0, 0.0]]
    at_10 = math.exp(-100 / 200)
    assert cmmd(x, y) == pytest.approx(1000 * ((2 + 2 * at_10) / 4 + 1 - 2 * (1 + at_10) / 2))
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)
    assert cmmd([[1.0, 0.0]], [[0.0, 1.0]]) == pytest.approx(1000 * 2 * (1 - math.exp(-2 / 200)))


def test_cmmd_of_shifted_gaussians() -> None:
    spread, shift, wide = 4.0, 5.0, 10.0
    # E k = σ / √(σ² + 2s²) · exp(-m² / 2(σ² + 2s²)) for normal x - y of mean m and variance 2s².
    room = wide**2 + 2 * spread**2
    expected = 1000 * 2 * (wide / math.sqrt(room)) * (1 - math.exp(-(shift**2) / (2 * room)))
    assert cmmd(normal(0, spread), normal(shift, spread)) == pytest.approx(expected, rel=0.005)


def test_shapes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"N and M at least 2, not \(1, 3\) and \(4, 3\)"):
        kid(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"not \(2, 3\) and \(4, 2\)"):
        cmmd(np.zeros((2, 3)), np.zeros((4, 2)))


def test_metrics_of_too_few_pictures() -> None:
    reference = np.eye(3)
    of_kid, of_cmmd = Kid(lambda images: reference, reference), Cmmd(lambda images: reference, reference)
    assert math.isnan(of_kid.value(reference[:1]))
    assert math.isnan(of_cmmd.value(reference[:0]))
    assert of_kid.value(reference) == kid(reference, reference)
    assert of_cmmd.value(reference) == pytest.approx(0, abs=1e-9)
