"""All that an ablation found, as plain data for JSON files; `report.py` draws it. Called by `pipelines/ablate.py`.

Numbers are those of the students' evaluations; nothing is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.ablate.analysis import analyse
from curation.ablate.arms import Arm, differences
from curation.ablate.corpora import CorpusFacts, caption_tokens
from curation.ablate.measure import about, directions, scores_of
from curation.ablate.registered import Change
from curation.ablate.students import Student, read_evaluation
from curation.config.ablate import AblateConfig
from curation.evaluate.results import Results
from curation.text import all_without_secrets
from curation.train.trained import tokenizer_of

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of an arm."""

    arm: Arm
    corpus: str
    """What its students are trained on."""
    packed: str
    """The corpus of pictures: the same, or what was encoded."""
    facts: CorpusFacts
    steps: int
    students: tuple[Student, ...]


def collect(
    config: AblateConfig, made: Sequence[Made], references: Mapping[str, Path], changed: Sequence[Change] = ()
) -> dict[str, Any]:
    """The result. `changed`: what was not fixed beforehand. Raises KeyError where a metric of the verdict was not
    measured."""
    evaluation = config.evaluation
    found = [[read_evaluation(student.folder) for student in one.students] for one in made]
    any_results = found[0][0][0]
    by_arm = [[scores_of(evaluation, results) for results, _ in students] for students in found]
    names = list(by_arm[0][0])
    scores = {name: np.array([[one[name] for one in students] for students in by_arm]) for name in names}
    better = directions(evaluation, any_results)
    wanted = (config.verdict.primary, *config.verdict.secondaries)
    analysis = analyse(
        config, {name: scores[name] for name in wanted}, [name for name in wanted if better[name] is False]
    )
    result: dict[str, Any] = _plain(
        {
            "format": FORMAT,
            "name": config.name,
            "config": all_without_secrets(config.model_dump(mode="json")),
            "changed": [asdict(change) for change in changed],
            "arms": [_arm(one, results) for one, results in zip(made, found, strict=True)],
            "means": {name: _means(values) for name, values in scores.items()},
            "differences": all_without_secrets([asdict(d) for d in differences([_as_trained(one) for one in made])]),
            "references": {name: _reference(config, folder) for name, folder in references.items()},
            "metrics": {
                name: {"higher_is_better": better[name], "paper": about(evaluation, any_results, name).paper}
                for name in names
            },
            "prompts": [
                {"text": text, "kind": kind} for text, kind in zip(any_results.prompts, any_results.kinds, strict=True)
            ],
            "analysis": asdict(analysis),
            "scores": {name: values.tolist() for name, values in scores.items()},
        }
    )
    return result


def _as_trained(one: Made) -> Arm:
    """The arm with what fairness made of its steps and warm-up."""
    trained = one.students[0].train
    return replace(
        one.arm, train=one.arm.train.model_copy(update={"loop": trained.loop, "optimizer": trained.optimizer})
    )


def _arm(one: Made, found: Sequence[tuple[Results, dict[str, Any]]]) -> dict[str, Any]:
    from curation.train.run import finished

    train = one.arm.train
    seen = one.steps * train.data.batch * train.loop.accumulate
    tokenizer = tokenizer_of(train.recipe)
    captions = train.data.captions
    words = _mean_words(one.facts.words, captions)
    students = []
    for student, (_, written) in zip(one.students, found, strict=True):
        done = finished(student.train)
        assert done is not None, f"{student.folder} is finished"
        facts = done.facts
        students.append(
            {
                "pair": student.pair,
                "seed": student.train.seed,
                "folder": str(student.folder),
                "pictures": written["pictures"],
                "evaluation_seconds": written["seconds"],
                **{key: facts[key] for key in ("seconds", "device", "devices", "device_hours", "flops", "peak_memory")},
            }
        )
    return {
        "name": one.arm.name,
        "levels": dict(one.arm.levels),
        "corpus": one.corpus,
        "packed": one.packed,
        **asdict(one.facts),
        "captions": dict(captions),
        "caption_words": words,
        "caption_tokens": caption_tokens(one.packed, captions, tokenizer) if tokenizer else None,
        "steps": one.steps,
        "samples_seen": seen,
        "epochs": seen / one.facts.samples,
        "device_hours": sum(s["device_hours"] for s in students),
        "flops": students[0]["flops"],
        "students": students,
    }


def _mean_words(words: Mapping[str, float], captions: Mapping[str, float]) -> float:
    return sum(weight * words.get(kind, 0.0) for kind, weight in captions.items()) / sum(captions.values())


def _means(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float]]:
    """[arms, seeds] of [arms, seeds, prompts], over the prompts that ask for it."""
    means: list[list[float]] = np.nanmean(values, axis=2).tolist()
    return means


def _reference(config: AblateConfig, folder: Path) -> dict[str, Any]:
    results, written = read_evaluation(folder)
    means = {name: float(np.nanmean(values)) for name, values in scores_of(config.evaluation, results).items()}
    return {"folder": str(folder), "pictures": written["pictures"], "means": means}


def _plain(value: Any) -> Any:
    """NaN and infinities as null, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
