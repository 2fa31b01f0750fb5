"""The plan of an ablation as `curate plan` prints it: a tree of stages and arms, and below it what is to be paid."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from curation.config.ablate import AblateConfig
from pipelines.ablate_plan import AblationPlan, Branch, Training, plan_ablation
from pipelines.curate import Planned

WIDTH = 160
"""Columns of the tree at least: a line that a terminal breaks can be read, one that is cut off cannot."""


def show_plan(config: AblateConfig, console: Console) -> None:
    """Print the plan."""
    found = plan_ablation(config)
    console.print(f"output  {escape(config.output)}")
    width, console.width = console.width, max(console.width, WIDTH)
    console.print(tree(config, found))
    console.width = width
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
    told = [f"to fetch  {fetches}{_branched(found.left('fetch'), 'fetched')}"]
    if found.unseen is not None:
        told.append(f"          the lists are not here ({found.unseen}); what is cached cannot be told")
    left = [(t.arm, t.steps, t.batch, found.seeds - t.done) for t in found.trainings]
    students = sum(count for *_, count in left)
    steps = sum((steps or 0) * count for _, steps, _, count in left)
    samples = sum((steps or 0) * batch * count for _, steps, batch, count in left)
    unknown = "" if all(t.steps is not None for t in found.trainings) else " and more: fairness needs the corpora"
    if found.captions and (captioned := found.left("caption")):
        kinds = "a caption" if found.captions == 1 else f"{found.captions} captions"
        told.append(f"to write  {kinds} a picture that passes{_branched(captioned, 'captioned')}")
    if unknown and not steps:
        told.append(f"to train  {students:,} students; of how many steps each, fairness needs the corpora to tell")
    else:
        told.append(f"to train  {students:,} students, {steps:,} steps, {samples:,} samples{unknown}")
    if found.seconds:
        told.append(f"          {found.seconds / 3600:,.2g} device hours, by what steps take")
    elif students and any(t.seconds is None for t in found.trainings):
        told.append("          nothing says how long a step takes: no student is finished; run.seconds_per_step may")
    if stale := [t.arm for t in found.trainings if t.stale]:
        told.append(f"          those of {', '.join(stale)} are on other corpora: delete their folders beforehand")
    paint = "" if found.pictures is None else f", {students * found.pictures:,} pictures to paint"
    told.append(f"to ask    {found.prompts}{paint}; {', '.join(found.metrics)}")
    if found.missing:
        told.append(f"          not here: {', '.join(found.missing)}")
    return told


def _branched(left: Sequence[Planned], done: str) -> str:
    """Whether arms share all of a stage's work."""
    if len(left) < 2:
        return ", each once for all arms"
    return f", in {len(left)} branches: what is in several is {done} in each"


def _grow(into: Tree, branch: Branch, found: AblationPlan) -> None:
    planned = branch.planned
    rows = "" if planned.rows is None else f"  {planned.rows:,} rows"
    kept = "" if planned.kept is None else f", {planned.kept:,} kept"
    whose = "all arms" if len(branch.arms) == len(found.trainings) else f"{len(branch.arms)} of the arms"
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
    done += f", {training.stale} trained on another corpus" if training.stale else ""
    return f"[bold]{escape(training.arm)}[/]  {seeds} students of {steps} of {training.batch} samples{done}"
