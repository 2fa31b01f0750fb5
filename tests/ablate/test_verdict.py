"""The machinery of verdicts on simulated students, of which the truth is known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from curation.ablate.analysis import analyse
from curation.ablate.statistics import Estimate, Scores, estimate
from curation.ablate.verdict import judge, seeds_needed
from tests.ablate.example import example

MINIMUM = 1e-9
"""A minimum effect that never decides: what is tested is the interval."""


def students(
    rng: np.random.Generator, shifts: list[float], *, seeds: int = 5, prompts: int = 60, spread: float = 0.02
) -> Scores:
    """Shares of 6 attributes right: [A, S, P]. Prompts are easy or hard for all, and a little for each arm and seed."""
    arms = len(shifts)
    chance = 0.7 + np.array(shifts)[:, None, None] + 0.1 * rng.standard_normal((1, 1, prompts))
    chance = chance + spread * rng.standard_normal((arms, seeds, 1)) + 0.05 * rng.standard_normal((arms, 1, prompts))
    return rng.binomial(6, np.clip(chance, 0, 1), (arms, seeds, prompts)) / 6


def outcome(found: Estimate, minimum: float = MINIMUM) -> str:
    return judge(found, better="a", worse="b", metric="share", minimum_effect=minimum).outcome


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.1])
def test_arms_that_are_the_same_are_told_apart_in_five_of_a_hundred_cases_at_most(spread: float, seeds: int) -> None:
    rng = np.random.default_rng(1)
    decided, missed, cases = 0, 0, 1000 if seeds == 5 else 300
    for _ in range(cases):
        scores = students(rng, [0, 0], spread=spread, seeds=seeds)
        found = estimate(scores[0] - scores[1], repetitions=100)
        decided += outcome(found) != "undecided"
        missed += not found.bootstrap_low <= 0 <= found.bootstrap_high
    assert decided / cases <= (0.065 if seeds == 5 else 0.09)
    if spread == 0.1:
        assert decided / cases >= 0.01, "nor are they wider than they must be"
        assert missed > 2 * decided, "the percentiles of few seeds are no 95 % interval, as the module says"


def test_a_planted_difference_is_found_and_its_opposite_contradicted() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(200):
        scores = students(rng, [0.1, 0])
        found.append(outcome(estimate(scores[0] - scores[1], repetitions=100), 0.03))
        turned = outcome(estimate(scores[1] - scores[0], repetitions=100), 0.03)
        assert turned == {"supported": "contradicted", "undecided": "undecided"}[found[-1]]
    assert found.count("supported") >= 0.95 * 200, "0.1 is six standard errors"


def test_a_difference_that_does_not_matter_supports_nothing() -> None:
    differences = np.random.default_rng(3).normal(0.01, 0.001, (5, 50))
    verdict = judge(estimate(differences), better="a", worse="b", metric="share", minimum_effect=0.03)
    assert verdict.outcome == "undecided"
    assert verdict.estimate.low > 0
    assert "A difference of 0.03 or more, the smallest that was to matter, is excluded either way." in verdict.sentence


def of_seeds(*means: float) -> Estimate:
    return estimate(np.array(means)[:, None])


def test_sentences() -> None:
    supported = judge(of_seeds(4, 5, 6, 5, 5), better="few", worse="many", metric="m", minimum_effect=1)
    # standard error √(0.5 / 5), t 2.776
    assert supported.sentence == (
        "Supported: few is better than many in m: +5 (95% interval 4.12 to 5.88, over seeds for these prompts; "
        "5 of 5 seeds in favour, sign test p = 0.062)."
    )
    assert supported.seeds_needed is None
    contradicted = judge(of_seeds(-4, -5, -6), better="few", worse="many", metric="m", minimum_effect=1)
    assert contradicted.sentence.startswith(
        "Contradicted: few is worse than many in m: -5 (95% interval -7.48 to -2.52"
    )


def test_how_many_seeds_would_decide() -> None:
    """Mean 1, variance 4: 2 (1.96 + 0.84) / √n ≤ 1 from 32 on by normal quantiles, 34 by t (2.035, 0.853)."""
    found = dataclasses.replace(of_seeds(-1, 1, 3), mean=1.0, seed_variance=4.0, prompt_variance=0.0)
    assert seeds_needed(found, 0.5) == 34
    # less than the minimum effect, to which 0.5 lacks: by t's of 127 degrees 2 (1.979 + 0.844) / √128 = 0.499
    assert seeds_needed(found, 1.5) == 128
    assert seeds_needed(dataclasses.replace(found, prompt_variance=0.2), 0.5) is None, "the prompts are too few"
    verdict = judge(of_seeds(-1, 1, 3), better="a", worse="b", metric="m", minimum_effect=0.5)
    assert verdict.seeds_needed == 34
    assert verdict.sentence.endswith(
        "About 31 more seeds would probably tell it from none, and its mean from 0.5, the smallest that was to matter, "
        "if mean and spread stay as they are."
    )
    assert seeds_needed(of_seeds(-10, 0, 10.001), 0.5) is None, "over a thousand"


@pytest.mark.parametrize(("mean", "minimum"), [(0.05, 0.03), (0.035, 0.03), (0.0, 0.03), (0.01, 0.03)])
def test_as_many_seeds_as_it_says_decide_in_four_of_five_cases(mean: float, minimum: float) -> None:
    """Also where the mean is little above the least that matters, and where it is to be excluded on both sides."""
    known = dataclasses.replace(of_seeds(0, 1, 2), mean=mean, seed_variance=0.0004, prompt_variance=2e-6)
    seeds = seeds_needed(known, minimum)
    assert seeds is not None
    rng = np.random.default_rng(5)
    decided = 0
    for _ in range(400):
        prompts = mean + 0.02 * rng.standard_normal((1, 200))  # of a mean of 200: 0.02² / 200 = 2e-6
        found = estimate(prompts + 0.02 * rng.standard_normal((seeds, 1)), repetitions=100)
        excluded = -minimum < found.low and found.high < minimum
        decided += outcome(found, minimum) != "undecided" or excluded
    assert decided / 400 >= 0.74
    if seeds > 10:  # of few, one more is many more
        assert decided / 400 <= 0.88


def test_an_analysis_judges_claims_and_effects() -> None:
    config = example()
    names = list(config.levels)
    shifts = [0.15 * ("high" in name) for name in names]
    rng = np.random.default_rng(4)
    config = example(
        verdict=config.verdict.model_dump() | {"primary": "rich", "secondaries": ("short", "kid"), "repetitions": 300}
    )
    scores = {
        "rich": students(rng, shifts),
        "short": students(rng, shifts),
        "kid": 1 - students(rng, shifts, prompts=1, spread=0.0),
    }
    scores["short"][:, :, :10] = np.nan
    found = analyse(config, scores)
    assert [(v.better, v.worse, v.outcome) for v in found.verdicts] == [
        ("few-high", "many-low", "supported"),
        ("resolution high", "resolution low", "supported"),
    ]
    assert [(s.better, s.metric) for s in found.secondaries] == [
        (better, metric) for better in ("few-high", "resolution high") for metric in ("short", "kid")
    ]
    assert all(s.adjusted_p >= s.estimate.p for s in found.secondaries)
    assert found.secondaries[0].estimate.prompts == 50
    effects = {(e.metric, e.factors): e.estimate.mean for e in found.effects}
    assert len(effects) == 3 * 3
    assert effects["rich", ("resolution",)] == pytest.approx(-0.15, abs=0.03), "low less high"
    assert effects["rich", ("amount",)] == pytest.approx(0, abs=0.03)
    json.dumps(dataclasses.asdict(found), allow_nan=False)
    turned = analyse(config, {"rich": 1 - scores["rich"], "short": scores["short"], "kid": scores["kid"]}, {"rich"})
    assert [v.outcome for v in turned.verdicts] == ["supported", "supported"]
    assert "in rich, turned round for less is better: +0.1" in turned.verdicts[0].sentence
    resolution = next(e for e in turned.effects if (e.metric, e.factors) == ("rich", ("resolution",)))
    assert resolution.estimate.mean == pytest.approx(-0.15, abs=0.03), "as the verdict has it"
    with pytest.raises(ValueError, match="5 arms, 5 seeds"):
        analyse(config, {**scores, "rich": scores["rich"][:, :4]})
