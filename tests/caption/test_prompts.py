"""Prompts: the built-in ones, the user's own in their place, and what cannot work."""

from __future__ import annotations

from typing import Any

import pytest

from curation.caption.prompts import (
    DENSE,
    FUSE,
    MEDIUM_FROM_IMAGE,
    MEDIUM_FROM_TEXT,
    SHORT_FROM_IMAGE,
    SHORT_FROM_TEXT,
    Prompt,
    prompts_of,
)
from curation.config import CaptionSettings
from curation.errors import ConfigError

ALL = ("dense", "medium", "short")


def settings(**given: Any) -> CaptionSettings:
    return CaptionSettings(model="org/model", **given)


def test_shorter_kinds_come_from_the_dense_caption_or_from_the_image() -> None:
    from_text = prompts_of(settings(kinds=ALL))
    assert from_text == {"dense": DENSE, "medium": MEDIUM_FROM_TEXT, "short": SHORT_FROM_TEXT}
    assert [prompt.on_text for prompt in from_text.values()] == [False, True, True]
    from_image = prompts_of(settings(kinds=ALL, shorten="image"))
    assert from_image == {"dense": DENSE, "medium": MEDIUM_FROM_IMAGE, "short": SHORT_FROM_IMAGE}
    assert not any(prompt.on_text for prompt in from_image.values())
    assert list(prompts_of(settings(kinds=("short", "dense")))) == ["short", "dense"]


def test_a_users_prompt_takes_the_place_of_the_built_in_one() -> None:
    own = {"dense": "All of it, {as you see it}, {}.", "short": "In brief: {caption}", "medium": "Some of it."}
    prompts = prompts_of(settings(kinds=("dense", "short"), prompts=own))
    assert prompts == {"dense": Prompt(own["dense"]), "short": Prompt(own["short"])}
    assert prompts["dense"].fill() == own["dense"]
    assert prompts["short"].fill(caption="a {names} {caption}") == "In brief: a {names} {caption}"


def test_names_and_caption_are_filled_in_once() -> None:
    assert FUSE.placeholders == {"caption", "names"}
    filled = FUSE.fill(caption="A man by {names}.", names="Ada {caption}")
    assert "\n\nA man by {names}.\n\n" in filled
    assert "these names: Ada {caption}." in filled


@pytest.mark.parametrize(
    ("kind", "given", "problem"),
    [
        ("dense", {"prompts": {"dense": " \n"}}, "is empty"),
        (
            "short",
            {"prompts": {"short": "From {caption} and {names}"}},
            "holds {names}; the only placeholder is {caption}",
        ),
        ("medium", {"prompts": {"medium": "{captoin}"}}, "holds {captoin}; the only placeholder is {caption}"),
        ("dense", {"prompts": {"dense": "Better: {caption}"}}, "the dense caption comes from the image"),
        (
            "short",
            {"prompts": {"short": "In brief: {caption}"}, "kinds": ("short",), "shorten": "image"},
            "which is not among `kinds`",
        ),
    ],
)
def test_a_prompt_that_cannot_work(kind: str, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prompts_of(settings(**given))
    assert caught.value.path == f"stages.caption.prompts.{kind}"
    assert problem in caught.value.problem
