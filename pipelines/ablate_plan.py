"""What an ablation would do: which stages its arms share, what each adds, and what is to be paid. Starts nothing.

`curate plan` on an ablation's config is `show_plan`. Where the lists of a source are not on this
machine, stages are told apart by their settings alone: the tree is the same, but nothing says what is done already.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from curation.ablate.arms import Arm, expand, steps_of, train_config
from curation.ablate.measure import check_metrics, metric_names, prompts_of
from curation.config import Config, Settings
from curation.config.ablate import AblateConfig, ModelEvaluation
from curation.errors import ConfigError, SourceError
from curation.fingerprint import fingerprint, result_settings
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
    seconds: float | None
    """Of a step, as the finished ones took; of another arm's where this one has none; else what the settings say."""


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
    unseen: str | None
    """Why stages are told by settings alone."""

    @property
    def fetches(self) -> int | None:
        """Rows that are still to be fetched, once for all arms; None where a list has not been read."""
        found = [branch.planned for branch in _all(self.branches) if branch.planned.stage == "fetch"]
        left = [p.rows for p in found if p.state != "cached"]
        known = [rows for rows in left if rows is not None]
        return sum(known) if len(known) == len(left) else None

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
            journeys[arm.name] = plan(arm.curate)
        except (ConfigError, SourceError) as error:
            if isinstance(error, ConfigError) and not error.path.startswith("source"):
                raise ConfigError(f"base.{error.path}", f"{error.problem} (in arm {arm.name!r})") from None
            unseen = str(error)
    if unseen is not None:  # names of folders depend on what the lists hold: all arms, or none
        journeys = {arm.name: _by_settings(arm.curate) for arm in arms}
    asked = config.evaluation
    prompts = (
        asked.prompts if isinstance(asked, ModelEvaluation) else f"{asked.prompts} scenes, {', '.join(asked.asked)}"
    )
    there = not isinstance(asked, ModelEvaluation) or Path(asked.prompts).exists()
    captioned = [arm.curate.stages.caption for arm in arms]
    return AblationPlan(
        branches=_branches(journeys, 0),
        trainings=_trainings(config, arms, journeys),
        seeds=config.seeds,
        prompts=prompts,
        pictures=len(prompts_of(asked)) if there else None,
        asking=_asking(config),
        captions=max(len(stage.kinds) if stage is not None else 0 for stage in captioned),
        metrics=metric_names(asked),
        unseen=unseen,
    )


def show_plan(config: AblateConfig, console: Console) -> None:
    """Print the plan."""
    found = plan_ablation(config)
    console.print(f"output  {escape(config.output)}")
    console.print(tree(config, found), crop=False, no_wrap=True, overflow="ignore")
    for line in lines(found):
        console.print(escape(line))


def tree(config: AblateConfig, found: AblationPlan) -> Tree:
    """The plan as it is printed."""
    root = Tree(
        f"[bold]{escape(config.name)}[/]  {len(found.trainings)} arms × {config.seeds} seeds", guide_style="dim"
    )
    for branch in found.branches:
        _grow(root, branch, found)
    return root


def lines(found: AblationPlan) -> list[str]:
    """What stands below the tree: what is left to do, in numbers."""
    fetches = "as many rows as the lists hold" if found.fetches is None else f"{found.fetches:,} rows"
    told = [f"to fetch  {fetches}, each once for all arms"]
    if found.unseen is not None:
        told.append(f"          the lists are not here ({found.unseen}); what is cached cannot be told")
    left = [(t.arm, t.steps, t.batch, found.seeds - t.done) for t in found.trainings]
    students = sum(count for *_, count in left)
    steps = sum((steps or 0) * count for _, steps, _, count in left)
    samples = sum((steps or 0) * batch * count for _, steps, batch, count in left)
    unknown = "" if all(t.steps is not None for t in found.trainings) else " and more: fairness needs the corpora"
    stages = [branch.planned for branch in _all(found.branches)]
    if found.captions and any(p.stage == "caption" and p.state != "cached" for p in stages):
        kinds = "a caption" if found.captions == 1 else f"{found.captions} captions"
        told.append(f"to write  {kinds} a picture that passes, once for all arms")
    told.append(f"to train  {students:,} students, {steps:,} steps, {samples:,} samples{unknown}")
    if found.seconds:
        told.append(f"          {found.seconds / 3600:,.2g} device hours, by what steps take")
    elif students:
        told.append("          nothing says how long a step takes: no student is finished; run.seconds_per_step may")
    paint = "" if found.pictures is None else f", {students * found.pictures:,} pictures to paint"
    told.append(f"to ask    {found.prompts}{paint}; {', '.join(found.metrics)}")
    return told


def _grow(into: Tree, branch: Branch, found: AblationPlan) -> None:
    planned = branch.planned
    rows = "" if planned.rows is None else f"  {planned.rows:,} rows"
    kept = "" if planned.kept is None else f", {planned.kept:,} kept"
    whose = "all arms" if len(branch.arms) == len(found.trainings) else escape(", ".join(branch.arms))
    colour = {"cached": "green", "partly done": "yellow"}.get(planned.state, "cyan")
    node = into.add(f"{escape(planned.folder)}  [{colour}]{planned.state}[/]{rows}{kept}  [dim]{whose}[/]")
    for after in branch.after:
        _grow(node, after, found)
    if not branch.after:
        for training in found.trainings:
            if training.arm in branch.arms:
                node.add(_told(training, found.seeds))


def _told(training: Training, seeds: int) -> str:
    steps = "as many steps as fairness gives" if training.steps is None else f"{training.steps:,} steps"
    done = f", {training.done} of them trained" if training.done else ""
    return f"[bold]{escape(training.arm)}[/]  {seeds} students of {steps} of {training.batch} samples{done}"


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


def _trainings(config: AblateConfig, arms: Sequence[Arm], journeys: dict[str, list[Planned]]) -> tuple[Training, ...]:
    samples = {name: next((p.kept for p in journey if p.stage == "pack"), None) for name, journey in journeys.items()}
    steps: dict[str, int] = {}
    if config.fairness in ("equal_steps", "as_set") or (config.fairness == "equal_epochs" and all(samples.values())):
        steps = steps_of(config, arms, {name: count or 0 for name, count in samples.items()}, {})
    taken = {arm.name: _finished(config, arm, steps.get(arm.name)) for arm in arms}
    every = [seconds for of in taken.values() for seconds, _ in of]
    return tuple(
        Training(
            arm.name,
            steps.get(arm.name),
            arm.train.data.batch * arm.train.loop.accumulate,
            sum(same for _, same in taken[arm.name]),
            median([seconds for seconds, _ in taken[arm.name]] or every) if every else config.run.seconds_per_step,
        )
        for arm in arms
    )


def _finished(config: AblateConfig, arm: Arm, steps: int | None) -> list[tuple[float, bool]]:
    """Of each trained student of the same recipe seconds a step, and whether it is one of those that are wanted: of the
    same settings, whatever corpus it was trained on. `steps`: None where they cannot be told yet."""
    found = []
    for pair in range(config.seeds):
        folder = f"{config.output.rstrip('/')}/students/{arm.name}-{pair}"
        try:
            with open(f"{folder}/run.json", encoding="utf-8") as file:
                facts: dict[str, Any] = json.load(file)
        except (OSError, ValueError):
            continue
        theirs = trained_by(facts)
        made = facts["steps"] if steps is None else steps
        mine = train_config(config, arm, pair, output=folder, corpus="", steps=made)
        if facts["status"] == "done" and theirs is not None and theirs.recipe == mine.recipe:
            mine = mine.model_copy(update={"data": mine.data.model_copy(update={"corpora": theirs.data.corpora})})
            found.append((facts["seconds"] / facts["steps"], theirs == mine and of_same_models(facts, mine)))
    return found


def _asking(config: AblateConfig) -> float | None:
    """Median seconds of the evaluations that are there."""
    found = []
    for path in Path(config.output).glob("students/*/evaluation.json"):
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
