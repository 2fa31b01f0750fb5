"""Beauty follows its definition, and uses the scale."""

from __future__ import annotations

import numpy as np
import pytest

from curation.scenes.beauty import WEIGHTS, beauty, merits
from curation.scenes.scene import Scene, SceneObject, make_scene, random_scene

SCENES = [random_scene(("beauty", i)) for i in range(2000)]


def scene(*objects: tuple[str, str, str, str], background: str = "cream", pattern: str = "gradient") -> Scene:
    made = [SceneObject(shape=s, colour=c, texture="plain", size=z, position=p) for s, c, z, p in objects]
    return make_scene(made, background, pattern)


def test_scores_fill_the_scale() -> None:
    scores = np.array([beauty(s) for s in SCENES])
    assert 1 <= scores.min() < 2.5
    assert 9 < scores.max() <= 10
    assert 4.5 < scores.mean() < 7
    assert scores.std() > 1
    assert (scores > 9.999).mean() < 0.02


def test_weights_make_a_whole_and_merits_are_shares() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    for s in SCENES[:300]:
        found = merits(s)
        assert found.keys() == WEIGHTS.keys()
        assert all(0 <= value <= 1 for value in found.values())


def test_blur_and_watermarks_spoil_every_picture() -> None:
    spoilt = [s for s in SCENES if beauty(s) > 1]
    assert all(beauty(s, "blurred") < beauty(s, "watermarked") < beauty(s) == beauty(s, "rotated") for s in spoilt)


@pytest.mark.parametrize(
    ("merit", "better", "worse"),
    [
        (
            "harmony",
            scene(("star", "red", "large", "left"), ("ring", "turquoise", "small", "right")),
            scene(("star", "red", "large", "left"), ("ring", "green", "small", "right")),
        ),
        ("contrast", scene(("star", "blue", "large", "left")), scene(("star", "yellow", "large", "left"))),
        ("balance", scene(("star", "blue", "large", "centre")), scene(("star", "blue", "large", "top left"))),
        (
            "variety",
            scene(("star", "red", "large", "left"), ("ring", "red", "large", "right")),
            scene(("star", "red", "large", "left"), ("star", "red", "large", "right")),
        ),
        (
            "quiet",
            scene(("star", "blue", "large", "left")),
            scene(("star", "blue", "large", "left"), pattern="grid"),
        ),
    ],
)
def test_each_merit_prefers_what_it_says(merit: str, better: Scene, worse: Scene) -> None:
    assert merits(better)[merit] > merits(worse)[merit] + 0.1
    others = set(WEIGHTS) - {merit}
    assert {name: merits(better)[name] for name in others - {"harmony", "contrast"}} == {
        name: merits(worse)[name] for name in others - {"harmony", "contrast"}
    }
    assert beauty(better) > beauty(worse)


def test_two_equal_masses_on_both_sides_are_balanced() -> None:
    assert merits(scene(("star", "red", "large", "left"), ("ring", "red", "large", "right")))["balance"] == 1
