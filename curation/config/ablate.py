"""Settings of an ablation: arms over one base, how they are trained and judged. `curate ablate` reads such a file.

Overrides are dotted paths with the value that stands there instead, like those of `--set`. With `train.` before them
they are of the training (`train.data.captions: {dense: 1}`), else of the curation (`stages.pack.resolution: 512`). A
value that is a mapping replaces the whole.
"""

from __future__ import annotations

import math
import re
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from curation.config.base import Place, Settings

NAME = r"^[A-Za-z0-9_.-]{1,64}$"


def _no_overrides(given: Any) -> Any:
    return {} if given is None else given


Overrides = Annotated[dict[str, Any], BeforeValidator(_no_overrides)]
"""Dotted path to value; nothing at all (`plain:`) is the base itself."""


class SceneEvaluation(Settings):
    """The embedded world: held-out scenes are asked for, and the judge reads what was drawn."""

    kind: Literal["scenes"]
    prompts: int = Field(256, ge=2)
    """Held-out scenes; each is asked for once in each of `asked`."""
    seed: int = 0
    """Decides the scenes, and the noise that each picture begins with: the same for all arms."""
    asked: tuple[Literal["rich", "short"], ...] = Field(("rich", "short"), min_length=1)
    """How they are described: with all that they show, or in a few words; scored on what the words mention."""

    @field_validator("asked")
    @classmethod
    def _each_once(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(kinds)) < len(kinds):
            raise ValueError("the same prompts would count twice")
        return kinds


class MetricSettings(Settings):
    """A metric and the model that it is computed by."""

    name: Literal["clip", "cmmd", "kid", "pickscore", "hpsv2", "vqa"]
    """Which."""
    model: str
    """Folder or hub name of its model."""
    revision: str | None = None
    """Commit on the hub."""
    processor: str | None = None
    """Where image processor and tokenizer are, if not beside the weights (`pickscore`, `hpsv2`)."""


class ModelEvaluation(Settings):
    """Prompts of one's own, and metrics by published models."""

    kind: Literal["models"]
    prompts: str
    """File with a prompt on each line; none of them may be a caption of any arm's corpus."""
    seed: int = 0
    """Decides the noise that each picture begins with: the same for all arms."""
    reference: str | None = None
    """Folder of pictures that `cmmd` and `kid` compare with."""
    metrics: tuple[MetricSettings, ...] = Field(min_length=1)
    """What is measured."""

    @model_validator(mode="after")
    def _together(self) -> ModelEvaluation:
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError("`metrics` names one of them twice")
        if self.reference is None and {"cmmd", "kid"} & set(names):
            raise ValueError("`cmmd` and `kid` need `reference`")
        return self


EvaluationSettings = Annotated[SceneEvaluation | ModelEvaluation, Field(discriminator="kind")]


class ClaimSettings(Settings):
    """That one arm is better than another, or one level of a factor than another, over all levels of the others."""

    better: str
    """An arm, or a level of `factor`."""
    worse: str
    """An arm, or a level of `factor`."""
    factor: str | None = None
    """A factor of `grid`; not given: `better` and `worse` are arms."""

    def named(self, side: str) -> str:
        """`better` or `worse` as people read it: two factors may have levels of the same name."""
        return side if self.factor is None else f"{self.factor} {side}"


class VerdictSettings(Settings):
    """What is claimed and how it is judged, written down before anything has run."""

    primary: str = Field(min_length=1)
    """The metric that the verdict is about."""
    minimum_effect: float = Field(gt=0, allow_inf_nan=False)
    """Smallest difference of the primary metric, in its own unit, that matters."""
    claims: tuple[ClaimSettings, ...] = ()
    """Each gets a verdict of its own."""
    secondaries: tuple[str, ...] = ()
    """Further metrics; their p-values are adjusted together (Holm 1979) and decide nothing."""
    repetitions: int = Field(2000, ge=100)
    """Draws of the bootstrap."""
    level: float = Field(0.95, gt=0.5, lt=1)
    """Confidence of all intervals."""

    @field_validator("secondaries")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a metric is named twice")
        return names


class AblateRun(Settings):
    """What a training takes of a cluster, and how many there are at once; speed only. Without Ray it says nothing."""

    workers: int = Field(1, ge=1)
    """Processes of a training; more than one make it a job of Ray Train, with all GPUs of its own."""
    cpus: float = Field(1, gt=0)
    """CPUs of a training in one process."""
    gpus: float = Field(0, ge=0)
    """GPUs of each process; under 1, several trainings share one."""
    seconds_per_step: float | None = Field(None, gt=0)
    """What a step takes by the clock, as far as known beforehand: `curate plan` reckons with it until a student is
    finished."""

    @model_validator(mode="after")
    def _together(self) -> AblateRun:
        if self.workers > 1 and self.gpus not in (0, 1):
            raise ValueError(f"each process of a job takes a GPU or none: `gpus` is 1 or 0, not {self.gpus:g}")
        if self.gpus > 1:
            raise ValueError(f"one process uses one GPU, not {self.gpus:g}: `workers` are processes of a training")
        return self


class AblateConfig(Settings):
    """An ablation."""

    name: str = Field(pattern=NAME)
    """Name of the ablation."""
    output: Place
    """Folder of corpora, students and report, on a local disk or one that all nodes share."""
    seed: int = 0
    """First seed of the trainings."""
    seeds: int = Field(5, ge=2)
    """Trainings of each arm, with seeds `seed`, `seed` + 1, … : the same for all arms, which makes them pairs."""
    base: dict[str, Any]
    """Settings of a curation, without `name`; `output` only where stages are shared with other corpora."""
    train: dict[str, Any]
    """Settings of a training, without `name`, `output`, `seed` and `data.corpora`."""
    arms: dict[str, Overrides] = Field({})
    """Single arms."""
    grid: dict[str, dict[str, Overrides]] = Field({})
    """Factors and their levels, the first of which is the one that the others are compared with. Each combination is
    an arm, named by its levels: `few-high-dense`."""
    fairness: Literal["equal_steps", "equal_epochs", "equal_flops", "as_set"]
    """All arms train for `loop.steps` of as many samples; or all go equally often through their corpora, as often as
    the arm that does so least in its `loop.steps`; or all spend as many FLOPs, as many as the arm that spends fewest in
    its `loop.steps`; or each for its own `loop.steps`, where that is what is asked."""
    evaluation: EvaluationSettings
    """What is asked of the students."""
    verdict: VerdictSettings
    """What is claimed."""
    run: AblateRun = AblateRun()
    """Speed only."""

    @property
    def levels(self) -> dict[str, dict[str, str]]:
        """The levels of each arm, by factor; none for single arms. In the order of the file, single arms first."""
        found: dict[str, dict[str, str]] = {name: {} for name in self.arms}
        if self.grid:
            for chosen in product(*self.grid.values()):
                found["-".join(chosen)] = dict(zip(self.grid, chosen, strict=True))
        return found

    @model_validator(mode="after")
    def _together(self) -> AblateConfig:
        for name in [*self.arms, *self.grid, *(level for levels in self.grid.values() for level in levels)]:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r} cannot be a name: of letters, digits and _ . - at most 64")
        for factor, levels in self.grid.items():
            if len(levels) < 2:
                raise ValueError(f"`grid.{factor}` has no two levels")
        count = len(self.arms) + (math.prod(len(levels) for levels in self.grid.values()) if self.grid else 0)
        if count < 2:
            raise ValueError("there are no two arms to compare: give `arms` or `grid`")
        if len(self.levels) < count:
            raise ValueError("two arms have the same name")
        for index, claim in enumerate(self.verdict.claims):
            self._known(f"`verdict.claims.{index}`", claim)
        if self.verdict.primary in self.verdict.secondaries:
            raise ValueError("`verdict.primary` is among the `secondaries`")
        return self

    def _known(self, where: str, claim: ClaimSettings) -> None:
        if claim.factor is not None and claim.factor not in self.grid:
            raise ValueError(f"{where}: no factor {claim.factor!r}; there is {', '.join(self.grid) or 'none'}")
        known = list(self.levels if claim.factor is None else self.grid[claim.factor])
        for name in (claim.better, claim.worse):
            if name not in known:
                what = "arm" if claim.factor is None else f"level of {claim.factor}"
                raise ValueError(f"{where}: no {what} {name!r}; there is {', '.join(known)}")
        if claim.better == claim.worse:
            raise ValueError(f"{where}: {claim.better!r} is compared with itself")
