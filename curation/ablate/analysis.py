"""Scores of all students → verdicts on the claims, secondary metrics, effects of the grid. Called by `curate ablate`.

`dataclasses.asdict(analyse(…))` is plain data for JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from curation.ablate.effects import compare, factorial_effects
from curation.ablate.significance import holm, sign_test
from curation.ablate.statistics import Estimate, Scores, contrast, estimate
from curation.ablate.verdict import Verdict, judge
from curation.config.ablate import AblateConfig, ClaimSettings


@dataclass(frozen=True, kw_only=True)
class Secondary:
    """A claim's difference in another metric: `better` less `worse`, in the metric's own direction."""

    better: str
    worse: str
    metric: str
    estimate: Estimate
    sign_test: float
    adjusted_p: float
    """`estimate.p` after Holm, over all secondary metrics of all claims."""


@dataclass(frozen=True, kw_only=True)
class FactorEffect:
    """An effect of the grid on a metric; on the primary turned round where less is better, as verdicts are."""

    factors: tuple[str, ...]
    levels: tuple[str, ...]
    metric: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What all scores say."""

    verdicts: tuple[Verdict, ...]
    """One a claim, by the primary metric."""
    secondaries: tuple[Secondary, ...]
    effects: tuple[FactorEffect, ...]
    """Of the primary metric, then of the others."""


def analyse(config: AblateConfig, scores: Mapping[str, Scores], lower_is_better: Collection[str] = ()) -> Analysis:
    """Judge the claims of `config.verdict` by `scores`: metric → [arms, seeds, prompts], arms as in `config.levels`.

    NaN: the prompt does not ask for what the metric measures. A metric of a whole student (KID) has one prompt. Raises
    KeyError for a metric without scores and ValueError for scores that are not of pairs.
    """
    settings = config.verdict
    arms = tuple(config.levels)
    metrics = (settings.primary, *settings.secondaries)

    def estimated(metric: str, weights: tuple[float, ...], sign: float = 1.0) -> Estimate:
        if scores[metric].shape[:2] != (len(arms), config.seeds):
            raise ValueError(
                f"{metric}: scores are of {scores[metric].shape}, not {len(arms)} arms, {config.seeds} seeds"
            )
        differences = contrast(scores[metric], [sign * weight for weight in weights])
        return estimate(differences, level=settings.level, repetitions=settings.repetitions, seed=config.seed)

    sign = -1.0 if settings.primary in lower_is_better else 1.0
    verdicts = tuple(
        judge(
            estimated(settings.primary, weights_of(config, claim), sign),
            better=claim.named(claim.better),
            worse=claim.named(claim.worse),
            metric=settings.primary,
            minimum_effect=settings.minimum_effect,
            level=settings.level,
            lower_is_better=settings.primary in lower_is_better,
        )
        for claim in settings.claims
    )
    others = [
        (claim, metric, estimated(metric, weights_of(config, claim)))
        for claim in settings.claims
        for metric in settings.secondaries
    ]
    adjusted = holm([found.p for _, _, found in others])
    grid = {factor: tuple(levels) for factor, levels in config.grid.items()}
    return Analysis(
        verdicts=verdicts,
        secondaries=tuple(
            Secondary(
                better=claim.named(claim.better),
                worse=claim.named(claim.worse),
                metric=metric,
                estimate=found,
                sign_test=sign_test(found.seeds),
                adjusted_p=p,
            )
            for (claim, metric, found), p in zip(others, adjusted, strict=True)
        ),
        effects=tuple(
            FactorEffect(
                factors=effect.factors,
                levels=effect.levels,
                metric=metric,
                estimate=estimated(metric, effect.weights, sign if metric == settings.primary else 1.0),
            )
            for metric in metrics
            for effect in factorial_effects(tuple(config.levels.values()), grid)
        ),
    )


def weights_of(config: AblateConfig, claim: ClaimSettings) -> tuple[float, ...]:
    """One weight an arm, of "better less worse"."""
    if claim.factor is not None:
        return compare(tuple(config.levels.values()), {claim.factor: (claim.better, claim.worse)})
    return tuple(float(name == claim.better) - float(name == claim.worse) for name in config.levels)
