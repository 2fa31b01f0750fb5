"""Evaluations beside students, and students that cannot go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from curation.ablate.arms import expand, train_config
from curation.ablate.students import EVALUATION, Failures, Student, evaluate_references
from curation.config.ablate import AblateConfig
from curation.errors import RunError
from curation.load import make
from curation.scenes.studio import SIDE
from tests.ablate.example import example, settings


def test_pictures_are_never_of_another_evaluation_than_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it asks anew, and asked as before: both are made again, not the pictures of one and the numbers of
    the other kept."""

    def asked(seed: int, sampler: Callable[..., list[Image.Image]]) -> bytes:
        monkeypatch.setattr("curation.ablate.students._true", lambda prompts, side: sampler)
        evaluation = {"kind": "scenes", "prompts": 2, "seed": seed}
        config = make(settings(output=str(tmp_path), evaluation=evaluation), model=AblateConfig)
        evaluate_references(config, [], SIDE)
        return (tmp_path / "references/true/pictures/dense-0.png").read_bytes()

    def plain(colour: str) -> Callable[..., list[Image.Image]]:
        return lambda texts, seeds: [Image.new("RGB", (SIDE, SIDE), colour) for _ in texts]

    def killed(texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        Image.new("RGB", (SIDE, SIDE), "blue").save(tmp_path / "references/true/pictures/dense-0.png")
        raise KeyboardInterrupt

    before = asked(0, plain("red"))
    with pytest.raises(KeyboardInterrupt):
        asked(1, killed)
    assert not (tmp_path / "references/true" / EVALUATION).exists()
    assert asked(0, plain("red")) == before


def test_want_of_memory_is_of_one_student_a_bug_of_all() -> None:
    failures, student = Failures(), _student()
    with failures.kept(student):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(ZeroDivisionError), failures.kept(student):
        raise ZeroDivisionError
    with pytest.raises(RunError, match=r"1 of the students failed.*few-high-0: CUDA out of memory"):
        failures.check()


def _student() -> Student:
    config = example()
    arm = next(arm for arm in expand(config) if arm.name == "few-high")
    train = train_config(config, arm, 0, output="students/few-high-0", corpus="pack")
    return Student(arm=arm.name, pair=0, train=train, packed="pack")
