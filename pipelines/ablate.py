"""Arms → corpora → students → verdict.

    from curation.ablate.arms import load_ablate_config
    from pipelines.ablate import ablate

    result = ablate(load_ablate_config("configs/ablations/scenes_triplet.yaml"), engine="local")
    print(result.report, *result.sentences, sep="\n")

`curate ablate` is this call. Stages of equal identity are shared by the arms, for their curations have one output. Run
again after whatever stopped it, it does what is left: stages, trainings and evaluations that are finished stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.ablate.arms import Arm, expand, steps_of, train_config
from curation.ablate.corpora import check_unseen, corpus_facts
from curation.ablate.measure import SCENE_KINDS, check_metrics, check_models, prompts_of
from curation.ablate.registered import Change, register
from curation.ablate.report import write_report
from curation.ablate.result import Made, collect
from curation.ablate.students import (
    EVALUATION,
    Failures,
    Student,
    evaluate_references,
    make_student,
    student_facts,
    students_folder,
    trained_elsewhere,
)
from curation.config.ablate import AblateConfig
from curation.errors import ConfigError, under
from curation.evaluate.prompts import Prompt
from curation.lock import alone
from curation.pack.stage import Pack
from curation.storage import Folder
from curation.train.run import finished, flops_per_sample
from curation.train.trained import check_paints, check_teacher, models_read
from pipelines.curate import Watcher as CurateWatcher
from pipelines.curate import make_stages, run

RESULT, SCORES = "result.json", "scores.json"


@dataclass(frozen=True)
class Ablated:
    """Where a finished ablation left things."""

    result: str
    """Path of `result.json`; beside it lies `scores.json`, with the score of each prompt: [arms, seeds, prompts]."""
    report: str
    """Path of the HTML report."""
    facts: Mapping[str, Any]
    """What both hold."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict on each claim."""
        return tuple(verdict["sentence"] for verdict in self.facts["analysis"]["verdicts"])


class Watcher:
    """Hears how an ablation goes on; the default says nothing."""

    curation: CurateWatcher = CurateWatcher()
    """Hears of the arms' stages."""

    def corpus(self, arm: str) -> None:
        """An arm's corpus is going to be made, or found."""

    def students(self, total: int, done: int) -> None:
        """Students are going to be made; `done` of them were trained before."""

    def student(self, arm: str, pair: int) -> None:
        """A student is trained and evaluated."""


def ablate(
    config: AblateConfig, *, engine: str = "ray", address: str | None = None, watcher: Watcher | None = None
) -> Ablated:
    """Do what is left of an ablation, and judge it.

    `engine` is "ray", with a task a student, or "local": one student after another in this process. Raises ConfigError
    before any work starts where it can, RunError where it cannot go on; students that can are done before.
    """
    check_metrics(config)
    check_models(config)
    arms = expand(config)
    for setting, place in (("output", config.output), *(("base.output", arm.curate.output) for arm in arms)):
        if "://" in place:
            raise ConfigError(setting, "must be a folder: students are written to local disks, and read from there")
    for arm in arms:
        with arm.blamed(), under("train"):
            check_paints(arm.train.recipe)
            models_read(arm.train.recipe)
            check_teacher(arm.train.recipe)
    _check_students(config, arms)
    prompts = prompts_of(config.evaluation)
    with alone(config.output), _session(config, engine, address):
        return _ablate(config, arms, prompts, engine, address, watcher or Watcher())


@contextmanager
def _session(config: AblateConfig, engine: str, address: str | None) -> Iterator[None]:
    """For corpora and students one Ray, if any. Raises ConfigError where it could never start a student."""
    if engine == "local":
        yield
        return
    from pipelines.cluster import cluster
    from pipelines.students import check_cluster

    with cluster(address):
        check_cluster(config)
        yield


def _ablate(
    config: AblateConfig,
    arms: Sequence[Arm],
    prompts: Sequence[Prompt],
    engine: str,
    address: str | None,
    watcher: Watcher,
) -> Ablated:
    corpora = _corpora(arms, engine, address, watcher)
    packed = {arm.name: _packed(arm) for arm in arms}
    telling = [prompt.text for prompt in prompts if prompt.kind != SCENE_KINDS["short"]]  # few words fit many scenes
    for one in dict.fromkeys(packed.values()):
        check_unseen(one, telling)
    facts = {arm.name: corpus_facts(packed[arm.name]) for arm in arms}
    flops = _flops(config, arms, corpora, engine) if config.fairness == "equal_flops" else {}
    steps = steps_of(config, arms, {name: one.samples for name, one in facts.items()}, flops)
    made = [
        Made(
            arm=arm,
            corpus=corpora[arm.name],
            packed=packed[arm.name],
            facts=facts[arm.name],
            steps=steps[arm.name],
            students=_students(config, arm, corpora[arm.name], packed[arm.name], steps[arm.name]),
        )
        for arm in arms
    ]
    _register(config)
    places = _make_students(config, made, engine, address, watcher)
    changed = _register(config)
    found = collect(config, made, places, changed)
    return Ablated(_write(config, found), str(write_report(Path(config.output), found)), found)


def _register(config: AblateConfig) -> tuple[Change, ...]:
    return register(config, sum(1 for _ in students_folder(config).glob(f"*/{EVALUATION}")))


def _check_students(config: AblateConfig, arms: Sequence[Arm]) -> None:
    """Refuse students that were trained on another corpus than the one that their arm now has, before it is paid for.
    Raises ConfigError."""
    stale = []
    for arm in arms:
        with arm.blamed():
            corpus = make_stages(arm.curate)[-1].folder.url
        for pair in range(config.seeds):
            folder = students_folder(config) / f"{arm.name}-{pair}"
            if (facts := student_facts(folder)) is not None and trained_elsewhere(facts, corpus):
                stale.append(str(folder))
    if stale:
        more = f" and {len(stale) - 3} more" if len(stale) > 3 else ""
        raise ConfigError(
            "output",
            f"{', '.join(stale[:3])}{more} were trained on another corpus than the settings now ask for: delete these "
            "folders, or choose another output",
        )


def _corpora(arms: Sequence[Arm], engine: str, address: str | None, watcher: Watcher) -> dict[str, str]:
    """Each arm's corpus by its name; arms with the same settings share the run, others the stages that are the same."""
    by_settings: dict[str, str] = {}
    found = {}
    for arm in arms:
        key = arm.curate.model_dump_json()
        if key not in by_settings:
            watcher.corpus(arm.name)
            with arm.blamed():
                by_settings[key] = run(arm.curate, engine=engine, address=address, watcher=watcher.curation).corpus
        found[arm.name] = by_settings[key]
    return found


def _packed(arm: Arm) -> str:
    return next(stage.folder.url for stage in make_stages(arm.curate) if isinstance(stage, Pack))


def _flops(config: AblateConfig, arms: Sequence[Arm], corpora: Mapping[str, str], engine: str) -> dict[str, int]:
    """FLOPs of a sample of each arm, counted where its students are going to be trained."""
    trains = {}
    for arm in arms:
        train = train_config(config, arm, 0, output=config.output, corpus=corpora[arm.name])
        share = max(1, train.data.batch // config.run.workers)  # what a process of its own takes of a batch
        trains[arm.name] = train.model_copy(update={"data": train.data.model_copy(update={"batch": share})})
    if engine == "local":
        return {name: flops_per_sample(train) for name, train in trains.items()}
    from pipelines.students import flops_on_ray

    return flops_on_ray(config, trains)


def _students(config: AblateConfig, arm: Arm, corpus: str, packed: str, steps: int) -> tuple[Student, ...]:
    found = []
    for pair in range(config.seeds):
        folder = students_folder(config) / f"{arm.name}-{pair}"
        train = train_config(config, arm, pair, output=str(folder), corpus=corpus, steps=steps)
        found.append(Student(arm=arm.name, pair=pair, train=train, packed=packed))
    return tuple(found)


def _make_students(
    config: AblateConfig, made: Sequence[Made], engine: str, address: str | None, watcher: Watcher
) -> dict[str, Path]:
    """Train and evaluate all that are not there; pair by pair, so that one that is stopped has as many of each arm."""
    students = [one.students[pair] for pair in range(config.seeds) for one in made]
    trainings = [one.arm.train for one in made]
    side = round(min(one.facts.resolution for one in made))
    watcher.students(len(students), sum(finished(student.train) is not None for student in students))
    if engine == "local":
        failures = Failures()
        for student in students:
            with failures.kept(student):
                make_student(config, student)
                watcher.student(student.arm, student.pair)
        failures.check()
    else:
        from pipelines.students import run_on_ray

        run_on_ray(config, students, trainings, side, address, lambda s: watcher.student(s.arm, s.pair))
    return evaluate_references(config, trainings, side)


def _write(config: AblateConfig, found: Mapping[str, Any]) -> str:
    """The scores of single prompts, which are most of it, go into a file of their own."""
    apart, folder = ("prompts", "scores"), Folder(config.output)
    for name, kept, indent in ((SCORES, True, None), (RESULT, False, 1)):
        part = {key: value for key, value in found.items() if (key in apart) is kept}
        folder.write_bytes(name, (json.dumps(part, indent=indent, ensure_ascii=False) + "\n").encode())
    return str(Path(config.output) / RESULT)
