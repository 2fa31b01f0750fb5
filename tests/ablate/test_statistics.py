"""Estimates, tests and effects against values worked out by hand or taken from printed tables."""

from __future__ import annotations

import numpy as np
import pytest

from curation.ablate.effects import compare, factorial_effects
from curation.ablate.significance import holm, sign_test
from curation.ablate.statistics import bootstrap_means, contrast, estimate
from curation.ablate.student_t import t_cdf, t_quantile


@pytest.mark.parametrize(
    ("probability", "df", "t"),
    [(0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.995, 10, 3.1693), (0.975, 1000, 1.9623), (0.8, 4, 0.9410)],
)
def test_quantiles_of_t_are_those_of_the_tables(probability: float, df: float, t: float) -> None:
    assert t_quantile(probability, df) == pytest.approx(t, abs=5e-5)
    assert t_quantile(1 - probability, df) == pytest.approx(-t, abs=5e-5)
    assert t_cdf(t, df) == pytest.approx(probability, abs=2e-5)


def test_t_with_one_and_two_degrees_has_a_closed_form() -> None:
    assert t_cdf(1, 1) == pytest.approx(0.75)  # 1/2 + atan(1) / π
    assert t_cdf(-2, 2) == pytest.approx(0.5 - 2 / (2 * np.sqrt(2 + 4)))
    assert t_cdf(0, 3.5) == 0.5


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),
        ([1, 2, 3, 4, -5], 12 / 32),
        ([1, -1], 1.0),
        ([0, 0, 3], 1.0),
        ([], 1.0),
        ([1] * 6, 2 / 64),
    ],
)
def test_sign_test(differences: list[float], p: float) -> None:
    assert sign_test(differences) == pytest.approx(p)


def test_holm() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 are 0.02, 0.03, 0.06, 0.04; the last is not less than the third
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_constant_differences_leave_no_doubt() -> None:
    found = estimate(np.full((5, 7), 0.25), repetitions=200)
    assert (found.mean, found.low, found.high, found.p) == (0.25, 0.25, 0.25, 0.0)
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((0.25, 0.25))
    assert estimate(np.zeros((2, 3)), repetitions=200).p == 1.0


def test_differences_between_seeds_alone_give_students_t() -> None:
    """Seed means 1, 2, 3, 4, 5 have mean 3 and standard error √(2.5 / 5); t of 4 degrees is 2.7764."""
    found = estimate(np.repeat([[1.0], [2], [3], [4], [5]], 10, axis=1), repetitions=500)
    half = 2.7764 * np.sqrt(0.5)
    assert (found.mean, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half), abs=1e-4)
    assert found.p == pytest.approx(2 * t_cdf(-3 / np.sqrt(0.5), 4))
    assert found.seeds == (1, 2, 3, 4, 5)
    assert found.prompt_variance == 0
    assert 1 <= found.bootstrap_low < 3 < found.bootstrap_high <= 5, "a bootstrap never leaves the range of its seeds"


def test_differences_between_prompts_alone_give_the_normal_interval() -> None:
    """All seeds say 0 and 2 for two halves of 100 prompts: variance 100/99, of the mean 1/99."""
    found = estimate(np.tile([0.0, 2.0], (5, 50)), repetitions=2000)
    assert found.prompt_variance == pytest.approx(1 / 99)
    assert (found.low, found.high) == pytest.approx((1 - 1.9602 / 99**0.5, 1 + 1.9602 / 99**0.5), abs=1e-4)
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((found.low, found.high), abs=0.02)


def test_bootstrap_draws_seeds_and_prompts() -> None:
    rows, columns = np.array([0.0, 4.0])[:, None], np.array([0.0, 1.0])[None]
    drawn = bootstrap_means(rows + columns, 20_000, seed=3)
    # twice the one, one of each or twice the other, in shares of 1/4, 1/2, 1/4: for seeds and for prompts
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 0.5, 1, 2, 2.5, 3, 4, 4.5, 5]
    wanted = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]).ravel()
    assert counts / 20_000 == pytest.approx(wanted, abs=0.015)
    assert (drawn == bootstrap_means(rows + columns, 20_000, seed=3)).all()


def test_a_contrast_leaves_out_what_was_not_asked() -> None:
    nan = np.nan
    scores = np.array([[[1.0, nan, 3.0], [2.0, nan, 4.0]], [[0.0, nan, 1.0], [0.0, nan, 1.0]]])
    assert contrast(scores, [1, -1]).tolist() == [[1, 2], [2, 3]]
    scores[0, 1, 0] = nan
    with pytest.raises(ValueError, match="scored for some students and not for others"):
        contrast(scores, [1, -1])
    with pytest.raises(ValueError, match="there is no score"):
        contrast(np.full((2, 2, 2), nan), [1, -1])


GRID = {"a": ("a0", "a1"), "b": ("b0", "b1"), "c": ("c0", "c1")}
ARMS = [{}, *({"a": a, "b": b, "c": c} for a in GRID["a"] for b in GRID["b"] for c in GRID["c"])]


def test_effects_of_a_factorial_are_its_coefficients() -> None:
    def score(levels: dict[str, str]) -> float:
        a, b, c = (float(levels[factor][1]) for factor in "abc")
        return 10 + 3 * a - 2 * b + 4 * a * b + 8 * a * b * c

    scores = np.array([99.0, *(score(levels) for levels in ARMS[1:])])  # the first arm is not of the grid
    found = {effect.factors: float(np.dot(effect.weights, scores)) for effect in factorial_effects(ARMS, GRID)}
    assert found == pytest.approx(
        {
            ("a",): 3 + 4 / 2 + 8 / 4,
            ("b",): -2 + 4 / 2 + 8 / 4,
            ("c",): 8 / 4,
            ("a", "b"): 4 + 8 / 2,
            ("a", "c"): 8 / 2,
            ("b", "c"): 8 / 2,
            ("a", "b", "c"): 8,
        }
    )


def test_effects_of_three_levels_compare_with_the_first() -> None:
    grid = {"captions": ("short", "medium", "dense")}
    arms = [{"captions": level} for level in grid["captions"]]
    effects = factorial_effects(arms, grid)
    assert [(effect.levels, effect.weights) for effect in effects] == [
        (("medium",), (-1, 1, 0)),
        (("dense",), (-1, 0, 1)),
    ]
    assert compare(arms, {"captions": ("dense", "medium")}) == (0, -1, 1)
