"""Names are found where they are certain, and only then; a fused text must be the caption with a name in it."""

from __future__ import annotations

import pytest

from curation.caption.names import candidate_names, holds_names


@pytest.mark.parametrize(
    ("alt_text", "names"),
    [
        ("a young woman named Maria Sharapova plays tennis in Paris", ["Maria Sharapova", "Paris"]),
        ("sunset over the Golden Gate Bridge seen from San Francisco", ["Golden Gate Bridge", "San Francisco"]),
        ("Barack Obama speaks to a crowd", ["Barack Obama"]),
        ("Statue of Liberty seen from the ferry in New York", ["Statue of Liberty", "New York"]),
        ("a statue of Leonardo da Vinci's horse in Milan", ["Leonardo da Vinci", "Milan"]),
        ("portrait of Mary J. Blige singing loudly", ["Mary J Blige"]),
        ("the house of Tom &amp; Jerry with garden", ["Tom", "Jerry"]),
        ("Paris at night, lights of Paris", ["Paris"]),
        ("the BMW X5 parked near a Ferrari garage", ["Ferrari"]),
        ("собака на траве в Москве", ["Москве"]),
        ("walls of Prague, Vienna, Rome and Madrid from above", ["Prague", "Vienna", "Rome"]),
    ],
)
def test_names(alt_text: str, names: list[str]) -> None:
    assert candidate_names(alt_text) == names


@pytest.mark.parametrize(
    "alt_text",
    [
        "",
        "   ",
        "a dog on a mat",
        "Dog playing in the park",
        "Paris at night",  # may be a name, may be the first word
        "A cat. Dogs run here. The dog barks",
        "Red Sports Car Parked On The Street Free Download",
        "Sunset over the Golden Gate Bridge, San Francisco",  # a headline: no word tells names from the others
        "BEAUTIFUL HOUSE FOR SALE in Miami",
        "NASA launch from the coast",
        "photo by John Smith of a large dog",
        "a large dog, courtesy of John Smith",
        "IMG_2034.JPG",
        "taken with a Canon EOS 5D on holiday",
        "see www.Example.com or https://Example.org/Great-Wall.jpg or Eiffel-Tower.png here",
        "a #Sunset by @JohnSmith at the beach",
        "mountains and lakes | HD Wallpaper",
        "a woman on a Monday in March",
        "<b>Bold</b> dogs on a mat",
        "1024x768 iPad screen of dogs",
    ],
)
def test_no_names(alt_text: str) -> None:
    assert candidate_names(alt_text) == []


@pytest.mark.parametrize("piece", ["@", "a@", "<", "Xy ", "x.jpg", "of Xy ", "Xy of ", "A. ", "&amp;", "'s"])
def test_hostile_texts_end(piece: str) -> None:
    assert len(candidate_names("see the dogs of " + piece * 100_000)) <= 3


def test_names_that_the_caption_has_are_left_out() -> None:
    alt_text = "the Eiffel Tower in Paris at night"
    assert candidate_names(alt_text) == ["Eiffel Tower", "Paris"]
    assert candidate_names(alt_text, "The eiffel tower is lit against a dark sky.") == ["Paris"]
    assert candidate_names(alt_text, "A tall tower, comparisons aside.") == ["Eiffel Tower", "Paris"]


def test_a_fused_text_is_the_caption_with_a_name_in_it() -> None:
    caption = "A tall iron tower stands against a dark sky, lit by many yellow lamps."
    names = ["Eiffel Tower", "Paris"]
    assert holds_names("The Eiffel Tower stands against a dark sky, lit by many yellow lamps.", caption, names)
    assert holds_names("A tall iron tower in Paris, against a dark sky, lit by many yellow lamps.", caption, names)
    assert not holds_names(caption, caption, names)
    assert not holds_names("The Eiffel Tower is in Paris.", caption, names)  # the caption is gone
    assert not holds_names("A tall iron tower stands against a dark sky of parish lamps, many, yellow.", caption, names)
