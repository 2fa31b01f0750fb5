"""Students of an ablation on Ray: a task each, or a job of Ray Train each where a training takes several processes.

`pipelines/ablate.py` calls these, and has Ray by then. The output must be a folder that all machines share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from curation.ablate.students import (
    Failures,
    Student,
    evaluate_references,
    evaluate_student,
    lacks_memory,
    make_student,
    named,
)
from curation.config.ablate import AblateConfig
from curation.config.train import TrainConfig
from curation.errors import ConfigError, CurationError, RunError
from curation.text import one_line
from curation.train.run import finished, flops_per_sample
from pipelines.cluster import enter, largest_machine
from pipelines.train import train_on_ray

RETRIES = 2
"""Times that a task is started again where its machine was lost; it goes on from its last checkpoint."""

Ended = Callable[[Student], None]


def run_on_ray(
    config: AblateConfig,
    students: Sequence[Student],
    trainings: Sequence[TrainConfig],
    side: int,
    address: str | None,
    ended: Ended,
) -> None:
    """Make all students, and evaluate what they are compared with (`side` as in `evaluate_references`).

    `ended` hears of each student. Raises RunError where some of them failed, after the others are done.
    """
    gpus = config.run.gpus
    options = {"num_cpus": config.run.cpus, "num_gpus": gpus, "max_retries": RETRIES}
    evaluating = {**options, "num_gpus": min(gpus, 1)}
    references = _remote(_references, evaluating).remote(config, list(trainings), side, os.getcwd())
    failures = Failures()
    if config.run.workers > 1:
        for student in students:
            with failures.kept(student):
                with named(student):
                    if finished(student.train) is None:
                        train_on_ray(student.train, workers=config.run.workers, gpus=gpus > 0, address=address)
                _wait(_remote(_evaluation, evaluating), config, [student], ended, failures)
    else:
        _wait(_remote(_student, options), config, students, ended, failures)
    failures.check()
    _result(references, "references")


def flops_on_ray(config: AblateConfig, trains: Mapping[str, TrainConfig]) -> dict[str, int]:
    """FLOPs of a sample of each training by its name, counted in a task each. Raises RunError where one fails."""
    task = _remote(_flops, {"num_cpus": config.run.cpus, "num_gpus": min(config.run.gpus, 1)})
    asked = {name: task.remote(train, os.getcwd()) for name, train in trains.items()}
    return {name: _result(one, f"a sample of {name}") for name, one in asked.items()}


def _remote(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    return ray.remote(**options)(function)


def _wait(task: Any, config: AblateConfig, students: Sequence[Student], ended: Ended, failures: Failures) -> None:
    waiting = {task.remote(config, student, os.getcwd()): student for student in students}
    try:
        while waiting:
            done, _ = ray.wait(list(waiting))
            for one in done:
                student = waiting.pop(one)
                with failures.kept(student):
                    _result(one, "")
                    ended(student)
    finally:
        for one in waiting:
            ray.cancel(one, force=True)


def _result(task: Any, what: str) -> Any:
    """Raises what a task raised on purpose, RunError where it lacked memory or its worker was lost; a bug as it is."""
    told = f"{what}: " if what else ""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ConfigError):
            raise cause from error
        if isinstance(cause, CurationError) or lacks_memory(cause):
            raise RunError(f"{told}{cause}") from error
        raise
    except ray.exceptions.RayError as error:
        raise RunError(f"{told}{one_line(error, 300)}") from error


def check_cluster(config: AblateConfig) -> None:
    """Refuse students that Ray would wait for without end. Raises ConfigError."""
    run = config.run
    for name, key, wanted in (("cpus", "CPU", run.cpus), ("gpus", "GPU", run.gpus)):
        if wanted > (most := largest_machine(key)):
            raise ConfigError(f"run.{name}", f"{wanted:g} are more than any machine of the cluster has: {most:g}")
    if run.workers == 1:
        return
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for key, wanted in (("CPU", run.workers), ("GPU", run.workers * run.gpus)):
        if wanted > there.get(key, 0):
            raise ConfigError("run.workers", f"{run.workers} take {wanted:g} {key}s; there are {there.get(key, 0):g}")


def _flops(train: TrainConfig, folder: str) -> int:
    enter(folder)
    return flops_per_sample(train)


def _student(config: AblateConfig, student: Student, folder: str) -> None:
    enter(folder)
    make_student(config, student)


def _evaluation(config: AblateConfig, student: Student, folder: str) -> None:
    enter(folder)
    evaluate_student(config, student)


def _references(config: AblateConfig, trainings: Sequence[TrainConfig], side: int, folder: str) -> None:
    enter(folder)
    evaluate_references(config, trainings, side)
