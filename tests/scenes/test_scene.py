"""Scenes: what they may hold, and that a seed always means the same one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from curation.scenes.dice import Dice
from curation.scenes.scene import (
    BACKGROUNDS,
    COLOURS,
    MAX_OBJECTS,
    PATTERNS,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    SceneObject,
    make_scene,
    random_scene,
)

STAR = SceneObject(shape="star", colour="red", texture="plain", size="large", position="top left")


def test_a_seed_means_the_same_scene_for_ever() -> None:
    assert random_scene(7) == Scene(
        objects=(SceneObject(shape="square", colour="blue", texture="checkered", size="small", position="bottom"),),
        background="cream",
        pattern="plain",
    )


def test_random_scenes_use_every_word() -> None:
    scenes = [random_scene(seed) for seed in range(600)]
    things = [thing for scene in scenes for thing in scene.objects]
    for attribute, words in (
        ("shape", SHAPES),
        ("colour", COLOURS),
        ("texture", TEXTURES),
        ("size", SIZES),
        ("position", POSITIONS),
    ):
        seen = Counter(getattr(thing, attribute) for thing in things)
        assert set(seen) == set(words)
        assert min(seen.values()) > 0.6 * len(things) / len(words)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {scene.pattern for scene in scenes} == set(PATTERNS)
    assert {len(scene.objects) for scene in scenes} == set(range(1, MAX_OBJECTS + 1))
    assert len(set(scenes)) > 590


@pytest.mark.parametrize("wrong", ["shape", "colour", "texture", "size", "position"])
def test_unknown_words_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong} 'blob' is not one of"):
        replace(STAR, **{wrong: "blob"})


def test_scenes_that_could_not_be_drawn_or_compared_are_refused() -> None:
    right = replace(STAR, position="right")
    with pytest.raises(ValueError, match="1 to 4 objects, not 0"):
        Scene(objects=(), background="sky", pattern="plain")
    with pytest.raises(ValueError, match="not 5"):
        make_scene([replace(STAR, position=p) for p in POSITIONS[:5]], "sky", "plain")
    with pytest.raises(ValueError, match="cell of its own"):
        Scene(objects=(STAR, STAR), background="sky", pattern="plain")
    with pytest.raises(ValueError, match="reading order"):
        Scene(objects=(right, STAR), background="sky", pattern="plain")
    with pytest.raises(ValueError, match="background 'green' is not"):
        make_scene([STAR], "green", "plain")
    assert make_scene([right, STAR], "sky", "plain").objects == (STAR, right)


def test_dice_do_what_they_say() -> None:
    dice = Dice("test", 1)
    weighted = Counter(dice.weighted({"often": 3, "never": 0, "seldom": 1}) for _ in range(2000))
    assert set(weighted) == {"often", "seldom"}
    assert 2.4 < weighted["often"] / weighted["seldom"] < 3.8
    assert {dice.whole(2, 4) for _ in range(100)} == {2, 3, 4}
    assert sorted(dice.shuffled(range(9))) == list(range(9))
    assert all(0.5 <= dice.between(0.5, 0.75) < 0.75 for _ in range(100))
    assert Dice("a", 1).unit() == Dice("a", 1).unit() != Dice("a", 2).unit()
