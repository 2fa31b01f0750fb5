"""What is claimed before anything was seen, and what is told of claims that were changed after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.ablate.registered import REGISTERED, Change, register
from curation.config.ablate import AblateConfig
from curation.errors import StorageError
from curation.load import make
from tests.ablate.example import VERDICT, settings


def claimed(output: Path, primary: str, seeds: int = 5) -> AblateConfig:
    verdict = {**VERDICT, "primary": primary}
    return make(settings(output=str(output), verdict=verdict, seeds=seeds), model=AblateConfig)


def test_a_change_before_anything_was_seen_is_none(tmp_path: Path) -> None:
    assert register(claimed(tmp_path, "rich.share"), 0) == ()
    assert register(claimed(tmp_path, "rich.shape"), 0) == ()
    assert register(claimed(tmp_path, "rich.shape"), 4) == ()


def test_a_change_after_that_is_told_for_good(tmp_path: Path) -> None:
    register(claimed(tmp_path, "rich.share"), 0)
    assert register(claimed(tmp_path, "rich.share"), 10) == ()
    shape = Change(path="verdict.primary", students=10, before="rich.share", now="rich.shape")
    assert register(claimed(tmp_path, "rich.shape"), 10) == (shape,)
    more = Change(path="seeds", students=12, before=5, now=13)
    assert register(claimed(tmp_path, "rich.shape", seeds=13), 12) == (shape, more)
    back = Change(path="verdict.primary", students=26, before="rich.shape", now="rich.share")
    assert register(claimed(tmp_path, "rich.share", seeds=13), 26) == (shape, more, back)


def test_a_look_is_not_forgotten_with_the_students(tmp_path: Path) -> None:
    register(claimed(tmp_path, "rich.share"), 0)
    register(claimed(tmp_path, "rich.share"), 10)  # as they are made
    change = Change(path="verdict.primary", students=10, before="rich.share", now="rich.shape")
    assert register(claimed(tmp_path, "rich.shape"), 0) == (change,)  # their folders were deleted


def test_prompts_are_what_their_file_holds(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\nb\n")
    asked = {"kind": "models", "prompts": str(prompts), "metrics": [{"name": "clip", "model": "some/clip"}]}
    given = settings(output=str(tmp_path), evaluation=asked, verdict={**VERDICT, "primary": "clip"})
    config = make(given, model=AblateConfig)
    register(config, 5)
    assert register(config, 5) == ()
    prompts.write_text("a\nc\n")
    (change,) = register(config, 5)
    assert change.path == "evaluation.prompts (what it holds)"


def test_arms_and_their_training_are_registered_too(tmp_path: Path) -> None:
    def given(train: dict[str, Any], arms: dict[str, Any]) -> AblateConfig:
        whole = settings(output=str(tmp_path), arms=arms)
        return make({**whole, "train": {**whole["train"], **train}}, model=AblateConfig)

    secret = {"source.path": "https://me:word@host/list.parquet?sig=abc"}
    register(given({}, {"alone": secret}), 5)
    speed = {"stages.fetch.run.concurrency": 7, "train.data.workers": 2, "train.loop.keep": 1}
    assert register(given({"grids": {"every": 9}}, {"alone": {**secret, **speed}}), 5) == ()
    assert "word" not in (tmp_path / REGISTERED).read_text()
    found = register(given({"optimizer": {"lr": 0.1}}, {"alone": {**secret, "train.loop.steps": 900}}), 5)
    assert {(change.path, change.before, change.now) for change in found} == {
        ("train.optimizer.warmup", 10, None),
        ("train.optimizer.lr", None, 0.1),
        ("arms.alone.train.loop.steps", None, 900),
    }


def test_what_was_written_and_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / REGISTERED).write_text("[{")
    with pytest.raises(StorageError, match=REGISTERED):
        register(claimed(tmp_path, "rich.share"), 3)
