"""What an ablation would do: which stages its arms share, what each adds, and what is to be paid. Starts nothing.

`curate plan` on an ablation's config shows it (`ablate_plan_text.py`). Where the lists of a source are not on this
machine, stages are told apart by their settings alone: the tree is the same, but nothing says what is done already.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from curation.ablate.arms import Arm, expand, steps_of, train_config
from curation.ablate.measure import check_metrics, metric_names, prompts_of
from curation.ablate.students import EVALUATION, student_facts, students_folder, trained_elsewhere
from curation.config import Config, Settings
from curation.config.ablate import AblateConfig, ModelEvaluation
from curation.errors import ConfigError, SourceError
from curation.fingerprint import fingerprint, result_settings
from curation.train.identity import of_same_settings
from curation.train.trained import of_same_models, trained_by
from pipelines.curate import Planned, plan


@dataclass(frozen=True)
class Branch:
    """A stage folder, and the arms whose corpora come from it."""

    planned: Planned
    arms: tuple[str, ...]
    after: tuple[Branch, ...]


@dataclass(frozen=True)
class Training:
    """The students of an arm."""

    arm: str
    steps: int | None
    """Of each; None where that depends on how many samples its corpus will have."""
    batch: int
    done: int
    """Students that are trained."""
    stale: int
    """Students that were trained on another corpus than the one that the arm now has."""
    seconds: float | None
    """Of devices for a step, as the finished ones took; of another arm's where this one has none; else what the
    settings say."""


@dataclass(frozen=True)
class AblationPlan:
    """All of it."""

    branches: tuple[Branch, ...]
    trainings: tuple[Training, ...]
    seeds: int
    prompts: str
    """What each student is asked."""
    pictures: int | None
    """That each student paints; None where the prompts are not here."""
    asking: float | None
    """Seconds of asking a student, as it took with the finished ones."""
    captions: int
    """Kinds that a picture is captioned in; 0 without a captioner."""
    metrics: tuple[str, ...]
    missing: tuple[str, ...]
    """Files and folders of the evaluation that are not here."""
    unseen: str | None
    """Why stages are told by settings alone."""

    @property
    def fetches(self) -> int | None:
        """Rows that are still to be fetched; None where a list has not been read."""
        left = [planned.rows for planned in self.left("fetch")]
        known = [rows for rows in left if rows is not None]
        return sum(known) if len(known) == len(left) else None

    def left(self, stage: str) -> list[Planned]:
        """Of each branch of arms, the stage of this name, where it is not done."""
        found = [branch.planned for branch in _all(self.branches) if branch.planned.stage == stage]
        return [planned for planned in found if planned.state != "cached"]

    @property
    def seconds(self) -> float | None:
        """Of device time for the students that are left; None where nothing says."""
        times = [(t.seconds, t.steps, self.seeds - t.done) for t in self.trainings]
        if any(seconds is None or steps is None for seconds, steps, left in times if left):
            return None
        return sum(((seconds or 0) * (steps or 0) + (self.asking or 0)) * left for seconds, steps, left in times)


def plan_ablation(config: AblateConfig) -> AblationPlan:
    """Raises ConfigError for settings that cannot work."""
    check_metrics(config)
    arms = expand(config)
    unseen: str | None = None
    journeys: dict[str, list[Planned]] = {}
    for arm in arms:
        try:
            with arm.blamed():
                journeys[arm.name] = plan(arm.curate)
        except (ConfigError, SourceError) as error:
            if isinstance(error, ConfigError) and ".source" not in error.path:
                raise
            unseen = str(error)
    if unseen is not None:  # names of folders depend on what the lists hold: all arms, or none
        journeys = {arm.name: _by_settings(arm.curate) for arm in arms}
    asked = config.evaluation
    wanted: list[str] = []
    if isinstance(asked, ModelEvaluation):
        prompts = asked.prompts
        wanted = [prompts, *([asked.reference] if asked.reference is not None else [])]
    else:
        prompts = f"{asked.prompts} scenes, {', '.join(asked.asked)}"
    missing = tuple(path for path in wanted if not Path(path).expanduser().exists())
    captioned = [arm.curate.stages.caption for arm in arms]
    return AblationPlan(
        branches=_branches(journeys, 0),
        trainings=_trainings(config, arms, journeys, folders_known=unseen is None),
        seeds=config.seeds,
        prompts=prompts,
        pictures=None if prompts in missing else len(prompts_of(asked)),
        asking=_asking(config),
        captions=max(len(stage.kinds) if stage is not None else 0 for stage in captioned),
        metrics=metric_names(asked),
        missing=missing,
        unseen=unseen,
    )


def _branches(journeys: dict[str, list[Planned]], depth: int) -> tuple[Branch, ...]:
    groups: dict[str, list[str]] = {}
    for arm, journey in journeys.items():
        if depth < len(journey):
            groups.setdefault(journey[depth].folder, []).append(arm)
    return tuple(
        Branch(journeys[arms[0]][depth], tuple(arms), _branches({arm: journeys[arm] for arm in arms}, depth + 1))
        for arms in groups.values()
    )


def _all(branches: Sequence[Branch]) -> list[Branch]:
    return [found for branch in branches for found in (branch, *_all(branch.after))]


def _trainings(
    config: AblateConfig, arms: Sequence[Arm], journeys: dict[str, list[Planned]], *, folders_known: bool
) -> tuple[Training, ...]:
    samples = {name: next((p.kept for p in journey if p.stage == "pack"), None) for name, journey in journeys.items()}
    steps: dict[str, int] = {}
    if config.fairness in ("equal_steps", "as_set") or (config.fairness == "equal_epochs" and all(samples.values())):
        steps = steps_of(config, arms, {name: count or 0 for name, count in samples.items()}, {})
    corpora = {name: journey[-1].folder if folders_known else None for name, journey in journeys.items()}
    taken = {arm.name: _finished(config, arm, steps.get(arm.name), corpora[arm.name]) for arm in arms}
    paces = {name: [seconds for seconds, _ in of if seconds is not None] for name, of in taken.items()}
    every = [seconds for of in paces.values() for seconds in of]
    told = config.run.seconds_per_step
    unseen = None if told is None else told * config.run.workers
    return tuple(
        Training(
            arm.name,
            steps.get(arm.name),
            arm.train.data.batch * arm.train.loop.accumulate,
            sum(whose == "wanted" for _, whose in taken[arm.name]),
            sum(whose == "stale" for _, whose in taken[arm.name]),
            median(paces[arm.name] or every) if every else unseen,
        )
        for arm in arms
    )


def _finished(
    config: AblateConfig, arm: Arm, steps: int | None, corpus: str | None
) -> list[tuple[float | None, Literal["wanted", "stale", "other"]]]:
    """Of each student device seconds a step (None with another recipe), and whether it is trained as is wanted, on
    another corpus, or by other settings. `steps`, `corpus` (its folder's name): None where they cannot be told."""
    found: list[tuple[float | None, Literal["wanted", "stale", "other"]]] = []
    for pair in range(config.seeds):
        folder = students_folder(config) / f"{arm.name}-{pair}"
        facts = student_facts(folder)
        theirs = trained_by(facts) if facts is not None else None
        if facts is None or theirs is None or not facts.get("steps"):
            continue
        seconds = facts["device_hours"] * 3600 / facts["steps"] if theirs.recipe == arm.train.recipe else None
        if corpus is not None and trained_elsewhere(facts, corpus):
            found.append((seconds, "stale"))
            continue
        if facts["status"] != "done" or seconds is None:
            continue
        made = facts["steps"] if steps is None else steps
        mine = train_config(config, arm, pair, output=str(folder), corpus=theirs.data.corpora[0].path, steps=made)
        wanted = of_same_settings(theirs, mine) and of_same_models(facts, mine)
        found.append((seconds, "wanted" if wanted else "other"))
    return found


def _asking(config: AblateConfig) -> float | None:
    """Median seconds of the evaluations that are there."""
    found = []
    for path in students_folder(config).glob(f"*/{EVALUATION}"):
        try:
            found.append(float(json.loads(path.read_text(encoding="utf-8"))["seconds"]))
        except (OSError, ValueError, KeyError):
            continue
    return median(found) if found else None


def _by_settings(config: Config) -> list[Planned]:
    """The journey of a run whose lists are elsewhere."""
    stages = config.stages
    limits = [source.limit for source in config.sources]
    rows = None if None in limits else sum(limit or 0 for limit in limits)
    journey: list[tuple[str, Any]] = [("source", [result_settings(source) for source in config.sources])]
    settings: dict[str, Settings | None] = {
        "fetch": stages.fetch,
        "score": stages.score,
        "select": stages.select,
        "caption": stages.caption,
        "pack": stages.pack,
        "encode": stages.encode,
    }
    journey += [(name, result_settings(given)) for name, given in settings.items() if given is not None]
    planned: list[Planned] = []
    before: str | None = None
    for name, given in journey:
        before = fingerprint(name, {"settings": given, "seed": config.seed}, before)
        known = rows if name in ("source", "fetch") else None
        planned.append(Planned(name, f"{name}-{before[:6]}…", "to run", known, None, "all of it"))
    return planned
