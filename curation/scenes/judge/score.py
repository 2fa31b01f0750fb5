"""How much of what a prompt asked for a picture shows: `score_scene`. Only what the prompt mentions counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from curation.scenes.judge.reading import Cell, Reading
from curation.scenes.scene import Scene, SceneObject

Mentioned = Literal["short", "medium", "dense"]

ASKED: dict[Mentioned, tuple[str, ...]] = {
    "short": ("colour", "shape"),
    "medium": ("background", "colour", "texture", "size", "shape"),
    "dense": ("background", "pattern", "position", "colour", "texture", "size", "shape"),
}
"""What each kind of description mentions; see `describe.py`. A texture that goes unnamed there is plain."""
_OF_SCENES = ("background", "pattern")


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a picture got right of a prompt."""

    right: dict[str, int]
    """By attribute, how often it is right: at most once for a background, at most once an object for the others."""
    asked: dict[str, int]
    """By attribute, how often the prompt mentions it."""
    spare: int
    """Objects that the prompt did not ask for."""

    @property
    def share(self) -> float:
        """Share of mentioned attributes that are right, in [0, 1]."""
        return sum(self.right.values()) / sum(self.asked.values())

    @property
    def all_right(self) -> bool:
        """All that is mentioned is right, and nothing else stands there."""
        return self.right == self.asked and self.spare == 0


def score_scene(reading: Reading, wanted: Scene, mentioned: Mentioned = "dense") -> Score:
    """Compares what was read with what a prompt of kind `mentioned` asked for.

    Where the prompt names places, an object counts by what stands in its cell, and an empty cell has none of it right.
    Elsewhere objects are matched so that most is right. An abstention is not right.
    """
    asked = ASKED[mentioned]
    of_objects = tuple(attribute for attribute in asked if attribute not in _OF_SCENES)
    found = reading.found
    if "position" in asked:
        by_place = {cell.position: cell for cell in found}
        pairs = [(thing, by_place.get(thing.position)) for thing in wanted.objects]
    else:
        pairs = _matched(wanted.objects, found, of_objects)
    right = {attribute: sum(_is_right(attribute, *pair) for pair in pairs) for attribute in of_objects}
    for attribute in _OF_SCENES:
        if attribute in asked:
            right[attribute] = int(getattr(reading, attribute).word == getattr(wanted, attribute))
    return Score(
        right={attribute: right[attribute] for attribute in asked},
        asked={attribute: 1 if attribute in _OF_SCENES else len(wanted.objects) for attribute in asked},
        spare=len(found) - sum(cell is not None for _, cell in pairs),
    )


def _is_right(attribute: str, thing: SceneObject, cell: Cell | None) -> bool:
    if cell is None:
        return False
    return attribute == "position" or getattr(cell, attribute).word == getattr(thing, attribute)


def _matched(
    things: Sequence[SceneObject], cells: Sequence[Cell], attributes: tuple[str, ...]
) -> list[tuple[SceneObject, Cell | None]]:
    """The assignment of cells to things with most attributes right, and as many pairs as there can be.

    By subsets: of things taken one after another, the best use of each set of cells; 2⁹ sets at most.
    """
    best: dict[int, tuple[int, tuple[Cell | None, ...]]] = {0: (0, ())}
    for thing in things:
        grown: dict[int, tuple[int, tuple[Cell | None, ...]]] = {}
        for used, (value, chosen) in best.items():
            options: list[tuple[int, int, Cell | None]] = [(used, value, None)]
            for bit, cell in enumerate(cells):
                if not used >> bit & 1:  # a pair at all is worth less than any attribute
                    gain = 10 * sum(_is_right(a, thing, cell) for a in attributes) + 1
                    options.append((used | 1 << bit, value + gain, cell))
            for key, total, pick in options:
                if key not in grown or total > grown[key][0]:
                    grown[key] = (total, (*chosen, pick))
        best = grown
    _, chosen = max(best.values(), key=lambda entry: entry[0])
    return list(zip(things, chosen, strict=True))
