"""Evaluations by published models: what is refused beforehand, what makes one stale, what its scores are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.ablate.measure import (
    about,
    check_metrics,
    check_models,
    directions,
    evaluation_identity,
    make_metrics,
    prompts_of,
    scores_of,
)
from curation.config.ablate import AblateConfig, ModelEvaluation
from curation.errors import ConfigError
from curation.evaluate.evaluate import evaluate
from tests.ablate.example import example


@pytest.fixture
def given(tmp_path: Path, clip_folder: Path) -> dict[str, Any]:
    (tmp_path / "prompts.txt").write_text("a red star\n\na blue square\na dog\n")
    reference = tmp_path / "reference"
    reference.mkdir()
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), 60 * number, np.uint8)).save(reference / f"{number}.png")
    names = ("clip", "cmmd", "kid", "pickscore")
    return {
        "kind": "models",
        "prompts": str(tmp_path / "prompts.txt"),
        "reference": str(reference),
        "metrics": [{"name": name, "model": str(clip_folder)} for name in names],
    }


def config(given: dict[str, Any], primary: str = "clip") -> AblateConfig:
    return example(evaluation=given, verdict={"primary": primary, "minimum_effect": 0.1})


def painted(texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
    dice = [np.random.default_rng(seed) for seed in seeds]
    return [Image.fromarray(one.integers(0, 256, (40, 40, 3), np.uint8)) for one in dice]


def test_all_metrics_of_models_by_their_names(given: dict[str, Any]) -> None:
    asked = ModelEvaluation.model_validate(given)
    prompts = prompts_of(asked)
    assert [prompt.text for prompt in prompts] == ["a red star", "a blue square", "a dog"]
    results = evaluate(painted, prompts, make_metrics(asked), seed=1)
    scores = scores_of(asked, results)
    assert {name: values.shape for name, values in scores.items()} == {
        "clip": (3,),
        "cmmd": (1,),
        "kid": (1,),
        "pickscore": (3,),
    }
    assert directions(asked, results) == {"clip": True, "cmmd": False, "kid": False, "pickscore": True}
    assert all(about(asked, results, name).paper for name in scores)


def test_what_is_not_there_is_refused_beforehand(given: dict[str, Any], tmp_path: Path) -> None:
    check_models(config(given))
    given["metrics"][3]["model"] = str(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"evaluation\.metrics\.3.*no folder"):
        check_models(config(given))
    given["metrics"].pop()
    given["reference"] = str(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"evaluation\.reference.*0 pictures"):
        check_models(config(given))


def test_a_damaged_reference_picture_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    given["metrics"] = given["metrics"][1:2]
    picture = tmp_path / "reference/3.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:60])
    with pytest.raises(ConfigError, match=r"evaluation\.reference: .*3\.png is no whole picture"):
        make_metrics(ModelEvaluation.model_validate(given))
    picture.write_text("a page that says 404")
    with pytest.raises(ConfigError, match=r"evaluation\.reference: .*3\.png is no whole picture"):
        check_models(config(given))


@pytest.mark.parametrize("change", ["prompts", "reference", "settings", "nothing"])
def test_an_evaluation_is_stale_where_what_it_asks_has_changed(
    given: dict[str, Any], tmp_path: Path, change: str
) -> None:
    before = evaluation_identity(ModelEvaluation.model_validate(given))
    if change == "prompts":
        (tmp_path / "prompts.txt").write_text("a red star\na cat\n")
    elif change == "reference":
        Image.new("RGB", (9, 9)).save(tmp_path / "reference/9.png")
    elif change == "settings":
        given["seed"] = 5
    same = evaluation_identity(ModelEvaluation.model_validate(given)) == before
    assert same == (change == "nothing")


def test_what_has_no_better_judges_nothing() -> None:
    for name in ("rich.high_frequency", "short.nearest_training"):
        with pytest.raises(ConfigError, match=r"verdict\.primary.*judges nothing"):
            check_metrics(example(verdict={"primary": name, "minimum_effect": 0.1}))
