"""What the judge says of a picture: `Reading`; every word comes with how sure the judge is, or is None: it abstains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from curation.scenes.scene import MAX_OBJECTS, POSITIONS, Scene, SceneObject, make_scene


@dataclass(frozen=True)
class Finding:
    """A word of the world, or None for an abstention.

    `sure` is in [0, 1]: 1 − (misfit of this word) / (misfit of the next best); 0 where the judge abstains.
    """

    word: str | None = None
    sure: float = 0.0


ABSTAINS = Finding()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One of the nine cells. `present` is None where the judge cannot say whether something stands there."""

    position: str
    present: bool | None = None
    sure: float = 0.0
    """Of `present`, in [0, 1]."""
    shape: Finding = ABSTAINS
    size: Finding = ABSTAINS
    colour: Finding = ABSTAINS
    texture: Finding = ABSTAINS

    @property
    def words(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Shape, size, colour and texture as read."""
        return self.shape.word, self.size.word, self.colour.word, self.texture.word


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All that the judge finds in one picture."""

    background: Finding
    pattern: Finding
    cells: tuple[Cell, ...]
    """All nine, in reading order."""

    @property
    def found(self) -> tuple[Cell, ...]:
        """The cells in which something stands."""
        return tuple(cell for cell in self.cells if cell.present)

    def scene(self) -> Scene | None:
        """The scene as read; None where anything of it is open, or where it holds no or too many objects."""
        if self.background.word is None or self.pattern.word is None or not 1 <= len(self.found) <= MAX_OBJECTS:
            return None
        if any(cell.present is None for cell in self.cells):
            return None
        objects = []
        for cell in self.found:
            shape, size, colour, texture = cell.words
            if shape is None or size is None or colour is None or texture is None:
                return None
            objects.append(SceneObject(shape=shape, colour=colour, texture=texture, size=size, position=cell.position))
        return make_scene(objects, self.background.word, self.pattern.word)


NOTHING = Reading(background=ABSTAINS, pattern=ABSTAINS, cells=tuple(Cell(position=position) for position in POSITIONS))
"""The reading of what is no picture of this world."""


def decide(misfits: Mapping[str, float], at_most: float) -> Finding:
    """The word of least misfit; an abstention where even that is over `at_most`."""
    ranked = sorted(misfits, key=lambda word: misfits[word])
    least = misfits[ranked[0]]
    if not least <= at_most:
        return ABSTAINS
    next_best = misfits[ranked[1]] if len(ranked) > 1 else at_most
    return Finding(ranked[0], max(0.0, 1 - least / max(next_best, 1e-9)))
