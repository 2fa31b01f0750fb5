"""Descriptions: `dense` pins a scene down, `short` and `medium` say less but nothing false, `alt` is noisy."""

from __future__ import annotations

import re

import pytest

from curation.scenes.describe import alt, dense, medium, parse_dense, short
from curation.scenes.scene import PATTERNS, SceneObject, make_scene, random_scene

SCENE = make_scene(
    [
        SceneObject(shape="ring", colour="orange", texture="plain", size="small", position="centre"),
        SceneObject(shape="star", colour="red", texture="striped", size="large", position="top left"),
    ],
    "sky",
    "waves",
)


def test_dense_descriptions_read_back_as_the_scene() -> None:
    longest = 0
    for seed in range(2000):
        scene = random_scene(seed)
        text = dense(scene, seed)
        assert parse_dense(text) == scene, text
        longest = max(longest, len(text.split()))
    assert longest < 50


def test_dense_descriptions_differ_in_wording_and_agree_in_content() -> None:
    texts = {dense(SCENE, seed) for seed in range(40)}
    assert len(texts) == 6  # three openings, two orders
    assert {parse_dense(text) for text in texts} == {SCENE}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_has_words(pattern: str) -> None:
    scene = make_scene(list(SCENE.objects), "navy", pattern)
    assert parse_dense(dense(scene)) == scene


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red star",
        short(SCENE),
        medium(SCENE),
        dense(SCENE) + " A cat looks on.",
        dense(SCENE).replace("striped", "furry"),
        dense(SCENE).replace("sky", "sky background and a mint"),
        dense(SCENE).replace("in the centre", "at the top left"),
        dense(SCENE).replace("background", "field"),
    ],
)
def test_what_is_no_dense_description_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a dense description|cell of its own"):
        parse_dense(text)


def test_short_and_medium_say_less() -> None:
    assert short(SCENE) == "a red star and an orange ring"
    assert medium(SCENE) == "A large striped red star and a small orange ring on a sky background."


def test_alt_texts_are_the_webs() -> None:
    seeds = range(1500)
    texts = [alt(random_scene(seed), seed) for seed in seeds]
    assert texts == [alt(random_scene(seed), seed) for seed in seeds]
    files = [t for t in texts if re.search(r"\.(jpe?g|png)$", t, re.I)]
    assert 0.15 < len(files) / len(texts) < 0.25
    true = [short(random_scene(seed)).lower() in text.lower() for seed, text in zip(seeds, texts, strict=True)]
    assert 0.4 < sum(true) / len(texts) < 0.65
    assert all(0 < len(t) < 200 for t in texts)


def test_some_alt_texts_are_plainly_wrong() -> None:
    scene = make_scene([SCENE.objects[0]], "sky", "plain")
    full = [t for t in (alt(scene, seed) for seed in range(400)) if re.fullmatch(r"an? [a-z ,]+", t, re.I)]
    wrong = [t for t in full if "red star" not in t.lower()]
    assert 0.1 < len(wrong) / len(full) < 0.4
