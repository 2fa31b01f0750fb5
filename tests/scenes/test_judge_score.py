"""Scores count what the prompt mentions, and match objects by place or by likeness."""

from __future__ import annotations

from curation.scenes.judge import ASKED, Cell, Finding, Reading, score_scene
from curation.scenes.scene import POSITIONS, Scene, SceneObject, make_scene

RED_STAR = SceneObject(shape="star", colour="red", texture="plain", size="large", position="top left")
BLUE_RING = SceneObject(shape="ring", colour="blue", texture="dotted", size="small", position="right")
WANTED = make_scene([RED_STAR, BLUE_RING], "sky", "waves")


def reading_of(scene: Scene, moved: dict[str, str] | None = None) -> Reading:
    """A sure reading of `scene`, with objects moved from cell to cell."""
    at = {(moved or {}).get(thing.position, thing.position): thing for thing in scene.objects}
    return Reading(
        background=Finding(scene.background, 1.0),
        pattern=Finding(scene.pattern, 1.0),
        cells=tuple(
            Cell(
                position=position,
                present=True,
                sure=1.0,
                shape=Finding(at[position].shape, 1.0),
                size=Finding(at[position].size, 1.0),
                colour=Finding(at[position].colour, 1.0),
                texture=Finding(at[position].texture, 1.0),
            )
            if position in at
            else Cell(position=position, present=False, sure=1.0)
            for position in POSITIONS
        ),
    )


def test_a_true_picture_has_all_right() -> None:
    reading = reading_of(WANTED)
    assert reading.scene() == WANTED
    for mentioned, asked in ASKED.items():
        score = score_scene(reading, WANTED, mentioned)
        assert score.all_right
        assert score.share == 1
        assert set(score.asked) == set(asked)


def test_only_what_is_mentioned_counts() -> None:
    other = make_scene([RED_STAR, BLUE_RING], "navy", "grid")
    reading = reading_of(other)
    assert score_scene(reading, WANTED, "short").all_right
    medium, dense = score_scene(reading, WANTED, "medium"), score_scene(reading, WANTED, "dense")
    assert (medium.right["background"], medium.share) == (0, 8 / 9)
    assert (dense.right["background"], dense.right["pattern"], dense.share) == (0, 0, 10 / 12)


def test_places_count_where_they_are_named() -> None:
    reading = reading_of(WANTED, {"top left": "right", "right": "top left"})  # they changed places
    assert score_scene(reading, WANTED, "medium").all_right
    dense = score_scene(reading, WANTED, "dense")
    assert dense.right == {
        "background": 1,
        "pattern": 1,
        "position": 2,
        "colour": 0,
        "texture": 0,
        "size": 0,
        "shape": 0,
    }
    away = score_scene(reading_of(WANTED, {"right": "bottom"}), WANTED, "dense")
    assert (away.right["position"], away.right["shape"], away.spare) == (1, 1, 1)


def test_objects_are_matched_so_that_most_is_right() -> None:
    wanted = make_scene(
        [
            RED_STAR,
            SceneObject(shape="star", colour="blue", texture="plain", size="large", position="top"),
            SceneObject(shape="heart", colour="red", texture="plain", size="large", position="left"),
        ],
        "sky",
        "plain",
    )
    shown = make_scene(
        [
            SceneObject(shape="heart", colour="red", texture="plain", size="large", position="top left"),
            SceneObject(shape="star", colour="red", texture="plain", size="large", position="centre"),
            SceneObject(shape="star", colour="green", texture="plain", size="large", position="bottom"),
        ],
        "sky",
        "plain",
    )
    score = score_scene(reading_of(shown), wanted, "short")
    assert score.right == {"colour": 2, "shape": 3}
    assert score.share == 5 / 6


def test_missing_and_spare_objects() -> None:
    lonely = make_scene([RED_STAR], "sky", "waves")
    missing = score_scene(reading_of(lonely), WANTED, "short")
    assert (missing.right, missing.spare, missing.all_right) == ({"colour": 1, "shape": 1}, 0, False)
    spare = score_scene(reading_of(WANTED), lonely, "dense")
    assert (spare.share, spare.spare, spare.all_right) == (1.0, 1, False)


def test_abstentions_are_not_right() -> None:
    full = reading_of(WANTED)
    unsure = Reading(background=Finding(), pattern=full.pattern, cells=full.cells)
    assert unsure.scene() is None
    assert score_scene(unsure, WANTED, "dense").right["background"] == 0
