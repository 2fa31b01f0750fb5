"""Held-out prompts, and the judge as a metric: true pictures score 1, pictures of other scenes score low."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from curation.evaluate.kid import kid
from curation.evaluate.prompts import Prompt, held_out_prompts
from curation.evaluate.scenes import JudgeMetric, judge_features, true_pictures
from curation.scenes.describe import parse_dense, short
from curation.scenes.judge import ASKED
from curation.scenes.studio import is_held_out

COUNT = 20


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return held_out_prompts(COUNT)


def column(name: str, prompts: list[Prompt], images: list[Image.Image]) -> np.ndarray:
    metric = JudgeMetric()
    return metric.scores(prompts, images)[:, metric.columns.index(name)]


def test_prompts_describe_held_out_scenes(prompts: list[Prompt]) -> None:
    dense, brief = prompts[:COUNT], prompts[COUNT:]
    assert [prompt.kind for prompt in prompts] == ["dense"] * COUNT + ["short"] * COUNT
    assert [prompt.scene for prompt in dense] == [prompt.scene for prompt in brief]
    assert len({prompt.scene for prompt in dense}) == COUNT
    for rich, poor in zip(dense, brief, strict=True):
        assert rich.scene is not None
        assert is_held_out(rich.scene)
        assert parse_dense(rich.text) == rich.scene
        assert poor.text == short(rich.scene)


def test_prompts_are_the_same_each_time(prompts: list[Prompt]) -> None:
    assert held_out_prompts(COUNT) == prompts
    assert held_out_prompts(5, ("dense",)) == prompts[:5], "more prompts leave the first as they are"
    assert held_out_prompts(5, ("dense",), seed="other") != prompts[:5]


def test_true_pictures_have_all_right(prompts: list[Prompt]) -> None:
    scores = JudgeMetric().scores(prompts, true_pictures(prompts))
    assert scores.shape == (2 * COUNT, len(JudgeMetric().columns))
    asked = scores[~np.isnan(scores)]
    assert asked.mean() == 1


def test_nothing_is_asked_that_a_prompt_does_not_mention(prompts: list[Prompt]) -> None:
    scores = JudgeMetric().scores(prompts, true_pictures(prompts))
    open_columns = {
        kind: {name for name, row in zip(JudgeMetric().columns, scores[at].T, strict=True) if np.isnan(row).all()}
        for kind, at in (("dense", slice(COUNT)), ("short", slice(COUNT, None)))
    }
    unsaid = {f"judge.{attribute}" for attribute in ASKED["dense"] if attribute not in ASKED["short"]}
    assert open_columns == {"dense": set(), "short": unsaid}
    free = [Prompt(text="a dog", kind="dense"), Prompt(text="a red star", kind="mine", scene=prompts[0].scene)]
    assert np.isnan(JudgeMetric().scores(free, true_pictures(prompts[:2]))).all()


def test_pictures_of_other_scenes_score_low(prompts: list[Prompt]) -> None:
    dense = prompts[:COUNT]
    swapped = true_pictures([*dense[1:], dense[0]])
    assert column("judge.share", dense, swapped).mean() < 0.5
    assert column("judge.all_right", dense, swapped).sum() == 0


def test_scaling_down_shows_in_texture_first(prompts: list[Prompt]) -> None:
    dense = [prompt for prompt in prompts[:COUNT] if prompt.scene and prompt.scene.objects[0].texture != "plain"]
    gone = [i.resize((12, 12), Image.Resampling.BOX).resize((48, 48)) for i in true_pictures(dense)]
    assert column("judge.texture", dense, gone).mean() < 0.6
    assert column("judge.background", dense, gone).mean() > 0.9


def test_features_of_the_judge(prompts: list[Prompt]) -> None:
    dense = prompts[:COUNT]
    features = judge_features(true_pictures(dense))
    assert features.shape == (COUNT, 86)
    objects = [len(prompt.scene.objects) for prompt in dense if prompt.scene]
    assert features.sum(axis=1).tolist() == [2 + 5 * count for count in objects], "one for each word of a scene"
    others = judge_features(true_pictures(held_out_prompts(COUNT, ("dense",), "others")))
    blank = judge_features([Image.new("RGB", (48, 48), "cornsilk")] * COUNT)
    assert kid(features, blank) > 5 * abs(kid(features, others))


def test_a_prompt_without_a_scene_has_no_true_picture() -> None:
    with pytest.raises(ValueError, match="'a dog' describes no scene"):
        true_pictures([Prompt(text="a dog", kind="short")])
