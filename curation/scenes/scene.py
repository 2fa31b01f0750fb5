"""What a picture of the embedded world shows: `Scene`. Rendered by `render.py`, put into words by `describe.py`.

A scene holds only what words can say. What they cannot (where the light stands, the grain, a shape's slight tilt) comes
from the seed that is given to the renderer.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.scenes.dice import Dice

SHAPES = ("circle", "square", "triangle", "star", "heart", "hexagon", "ring", "cross")
COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
TEXTURES = ("plain", "striped", "dotted", "checkered")
SIZES = ("small", "medium", "large")
POSITIONS = (  # reading order: the cell of POSITIONS[i] is row i // 3, column i % 3
    "top left",
    "top",
    "top right",
    "left",
    "centre",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
BACKGROUNDS = ("cream", "sand", "rose", "lilac", "sky", "mint", "grey", "navy")
PATTERNS = ("plain", "gradient", "waves", "grid", "dots", "rays")
MAX_OBJECTS = 4


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object. Raises ValueError for a word that the world does not know."""

    shape: str
    colour: str
    texture: str
    size: str
    position: str

    def __post_init__(self) -> None:
        _known("shape", self.shape, SHAPES)
        _known("colour", self.colour, COLOURS)
        _known("texture", self.texture, TEXTURES)
        _known("size", self.size, SIZES)
        _known("position", self.position, POSITIONS)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One to four objects, each in a cell of its own of a 3×3 grid, in reading order: equal pictures are equal scenes.

    Raises ValueError where two objects share a cell, are out of order, or are too many.
    """

    objects: tuple[SceneObject, ...]
    background: str
    pattern: str

    def __post_init__(self) -> None:
        _known("background", self.background, BACKGROUNDS)
        _known("pattern", self.pattern, PATTERNS)
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise ValueError(f"a scene has 1 to {MAX_OBJECTS} objects, not {len(self.objects)}")
        cells = [POSITIONS.index(o.position) for o in self.objects]
        if cells != sorted(set(cells)):
            raise ValueError("each object needs a cell of its own, and objects stand in reading order")


def make_scene(objects: list[SceneObject], background: str, pattern: str) -> Scene:
    """A scene from objects in any order."""
    ordered = tuple(sorted(objects, key=lambda o: POSITIONS.index(o.position)))
    return Scene(objects=ordered, background=background, pattern=pattern)


@dataclass(frozen=True, kw_only=True)
class World:
    """The words that scenes are made of; a smaller world takes some of the whole one's."""

    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = COLOURS
    textures: tuple[str, ...] = TEXTURES
    sizes: tuple[str, ...] = SIZES
    positions: tuple[str, ...] = POSITIONS
    backgrounds: tuple[str, ...] = BACKGROUNDS
    patterns: tuple[str, ...] = PATTERNS
    counts: tuple[float, ...] = (0.2, 0.3, 0.3, 0.2)
    """How likely are one object, two, …"""


WHOLE = World()


def random_scene(seed: object, world: World = WHOLE) -> Scene:
    """The scene of a seed (any value with a stable `str`): the same on every machine."""
    dice = Dice("scene", seed)
    count = dice.weighted({i + 1: share for i, share in enumerate(world.counts)})
    objects = [
        SceneObject(
            shape=dice.pick(world.shapes),
            colour=dice.pick(world.colours),
            texture=dice.pick(world.textures),
            size=dice.pick(world.sizes),
            position=position,
        )
        for position in dice.shuffled(world.positions)[:count]
    ]
    return make_scene(objects, dice.pick(world.backgrounds), dice.pick(world.patterns))


def _known(what: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{what} {word!r} is not one of {', '.join(words)}")
