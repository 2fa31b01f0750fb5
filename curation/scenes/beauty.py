"""What is beautiful in the embedded world: the truth that its aesthetic scores are fitted to and measured against.

Nobody's taste, but written down: objects whose hues agree (near one another on the colour wheel, or opposite), that
stand out from the background, are spread around the middle, differ from one another without crowding the picture, on a
quiet background. A blurred or watermarked picture is ugly whatever it shows.
"""

from __future__ import annotations

import colorsys
import math
from itertools import combinations

from curation.scenes.background import BACKGROUND_RGB
from curation.scenes.pictures import Effect
from curation.scenes.render import COLOUR_RGB, RADIUS
from curation.scenes.scene import POSITIONS, Scene

WEIGHTS = {"harmony": 0.3, "contrast": 0.2, "balance": 0.2, "variety": 0.15, "quiet": 0.15}
WORST, BEST = 0.35, 0.95
"""Weighted sums that score 1 and 10; of random scenes one in a hundred lies outside."""
SPOILT: dict[Effect, float] = {"none": 1.0, "rotated": 1.0, "blurred": 0.35, "watermarked": 0.45}
"""What is left of a picture's beauty above 1."""
_COUNT = {1: 0.4, 2: 0.8, 3: 1.0, 4: 0.6}
_QUIET = {"plain": 0.8, "gradient": 1.0, "waves": 0.7, "rays": 0.5, "dots": 0.3, "grid": 0.1}
_STANDS_OUT = 220.0
"""Distance in RGB from the background at which an object could not stand out more."""


def beauty(scene: Scene, effect: Effect = "none") -> float:
    """1 (ugly) to 10, for a picture of `scene` to which `effect` was done."""
    total = sum(WEIGHTS[name] * value for name, value in merits(scene).items())
    share = min(max((total - WORST) / (BEST - WORST), 0.0), 1.0)
    return 1 + 9 * share * SPOILT[effect]


def merits(scene: Scene) -> dict[str, float]:
    """The parts of a scene's beauty by the names of `WEIGHTS`, each in [0, 1]."""
    return {
        "harmony": _harmony(scene),
        "contrast": _contrast(scene),
        "balance": _balance(scene),
        "variety": _variety(scene),
        "quiet": _QUIET[scene.pattern],
    }


def _harmony(scene: Scene) -> float:
    """Mean over pairs of objects: 1 for equal or opposite hues, 0 for hues a quarter of the wheel apart."""
    hues = [colorsys.rgb_to_hsv(*COLOUR_RGB[o.colour])[0] for o in scene.objects]
    pairs = [(1 + math.cos(4 * math.pi * (a - b))) / 2 for a, b in combinations(hues, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.7


def _contrast(scene: Scene) -> float:
    """Mean over objects of their colour's distance from the background's."""
    ground = BACKGROUND_RGB[scene.background][0]
    apart = [min(math.dist(COLOUR_RGB[o.colour], ground) / _STANDS_OUT, 1.0) for o in scene.objects]
    return sum(apart) / len(apart)


def _balance(scene: Scene) -> float:
    """1 where the objects' centre of mass is in the middle, 0 where it is in a corner cell."""
    mass = [RADIUS[o.size] ** 2 for o in scene.objects]
    cells = [divmod(POSITIONS.index(o.position), 3) for o in scene.objects]
    down, across = (
        sum(m * (cell[axis] - 1) for m, cell in zip(mass, cells, strict=True)) / sum(mass) for axis in (0, 1)
    )
    return 1 - math.hypot(down, across) / math.sqrt(2)


def _variety(scene: Scene) -> float:
    """Best with three objects that share neither shape nor size."""
    objects = scene.objects
    differ = (len({o.shape for o in objects}) + min(len({o.size for o in objects}), 3)) / (len(objects) + 3)
    return _COUNT[len(objects)] * min(differ, 1.0)
