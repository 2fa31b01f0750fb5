"""A claim and its estimate → supported, contradicted or undecided, in words. Called by `curation.ablate.analysis`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Literal

from curation.ablate.significance import sign_test
from curation.ablate.statistics import Estimate, degrees_of_freedom
from curation.ablate.student_t import t_cdf, t_quantile

Outcome = Literal["supported", "contradicted", "undecided"]

POWER = 0.8
"""Chance with which the seeds of `seeds_needed` decide."""
MOST_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a claim "`better` is better than `worse`" comes to."""

    better: str
    worse: str
    metric: str
    outcome: Outcome
    sentence: str
    estimate: Estimate
    """Of `better` less `worse`; turned round for a metric of which less is better, so that above 0 is always for it."""
    sign_test: float
    """Exact two-sided p-value over seeds."""
    seeds_needed: int | None
    """Seeds in all that would decide; None where it is decided, where what matters is excluded, or where no number up
    to 1,000 would."""


def judge(
    estimate: Estimate,
    *,
    better: str,
    worse: str,
    metric: str,
    minimum_effect: float,
    level: float = 0.95,
    lower_is_better: bool = False,
) -> Verdict:
    """Supported: the interval is above 0, and the mean is at least `minimum_effect`. Contradicted: the same below 0.

    `lower_is_better` says that `estimate` was turned round, of a metric of which less is better.
    All else is undecided, so that arms which are the same are called different in about 1 - `level` of all cases at
    most (`curation.ablate.statistics` has it counted).
    """
    mean, low, high = estimate.mean, estimate.low, estimate.high
    outcome: Outcome = "undecided"
    if low > 0 and mean >= minimum_effect:
        outcome = "supported"
    elif high < 0 and -mean >= minimum_effect:
        outcome = "contradicted"
    excluded = -minimum_effect < low and high < minimum_effect
    needed = None if outcome != "undecided" or excluded else seeds_needed(estimate, minimum_effect, level)
    p = sign_test(estimate.seeds)
    turned = ", turned round for less is better" if lower_is_better else ""
    over = ", over seeds for these prompts" if estimate.prompts == 1 else ""
    sentence = (
        f"{_opening(outcome, better, worse)} in {metric}{turned}: "
        f"{_number(mean, signed=True)} ({100 * level:.4g}% interval {_number(low)} to {_number(high)}{over}; "
        f"{sum(d > 0 for d in estimate.seeds)} of {len(estimate.seeds)} seeds in favour, sign test p = {p:.2g})."
    )
    if outcome == "undecided":
        sentence += " " + _why_undecided(estimate, minimum_effect, needed, excluded)
    return Verdict(
        better=better,
        worse=worse,
        metric=metric,
        outcome=outcome,
        sentence=sentence,
        estimate=estimate,
        sign_test=p,
        seeds_needed=needed,
    )


def seeds_needed(estimate: Estimate, minimum_effect: float, level: float = 0.95) -> int | None:
    """Fewest seeds in all with which a verdict comes in four of five cases; None if there are none up to 1,000.

    A mean of the minimum effect or more is to be supported or contradicted, a smaller one to be excluded from
    mattering. It assumes that the true difference is the mean, that spread stays as it is, which after few seeds is a
    rough guess, and that prompts stay the same in number.
    """
    size, normal = abs(estimate.mean), NormalDist()
    z = normal.inv_cdf((1 + level) / 2)
    for seeds in range(len(estimate.seeds) + 1, MOST_SEEDS + 1):
        error = math.sqrt(estimate.seed_variance / seeds + estimate.prompt_variance)
        if _chance(size, minimum_effect, error, z, normal.cdf) < POWER:  # with t's tails it is less still
            continue
        df = degrees_of_freedom(estimate.seed_variance, estimate.prompt_variance, seeds)
        if _chance(size, minimum_effect, error, t_quantile((1 + level) / 2, df), partial(t_cdf, df=df)) >= POWER:
            return seeds
    return None


def _chance(size: float, minimum: float, error: float, quantile: float, cdf: Callable[[float], float]) -> float:
    """That a mean around `size` decides: is above its half interval and the minimum, or has its interval within it."""
    if size >= minimum:
        return cdf((size - max(quantile * error, minimum)) / error)
    return cdf((minimum - size) / error - quantile) + cdf((minimum + size) / error - quantile) - 1


def _opening(outcome: Outcome, better: str, worse: str) -> str:
    if outcome == "supported":
        return f"Supported: {better} is better than {worse}"
    if outcome == "contradicted":
        return f"Contradicted: {better} is worse than {worse}"
    return f"Undecided at this size: {better} against {worse}"


def _why_undecided(estimate: Estimate, minimum_effect: float, needed: int | None, excluded: bool) -> str:
    least = _number(minimum_effect)
    if excluded:
        return f"A difference of {least} or more, the smallest that was to matter, is excluded either way."
    if abs(estimate.mean) >= minimum_effect:
        what = f"tell it from none, and its mean from {least}, the smallest that was to matter"
    else:
        what = f"exclude one of {least}, the smallest that was to matter"
    if needed is None:
        return f"No number of seeds up to {MOST_SEEDS:,} is likely to {what}; more prompts may help."
    more = needed - len(estimate.seeds)
    return f"About {more} more seed{'s' * (more > 1)} would probably {what}, if mean and spread stay as they are."


def _number(value: float, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.3g}"
