"""What a scene holds as classes on its 3×3 grid: the auxiliary task on which the vision towers learn to see.

Each patch says what its cell holds and what the background is. That gives hundreds of answers a picture where a caption
gives dozens and a contrastive loss one, so a tower learns in minutes; the heads are dropped afterwards. `clip` and
`captioner` use it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

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
)

NOTHING = len(SHAPES)
"""The shape of an empty cell."""
UNASKED = -100
"""What an empty cell says of colour and the like, and a crowd of ranks beyond the fourth: it does not count."""
CELL = {"shape": NOTHING + 1, "colour": len(COLOURS), "texture": len(TEXTURES), "size": len(SIZES), "rank": MAX_OBJECTS}
"""Questions about a cell, and how many answers there are; `rank` counts objects in reading order."""
GROUND = {"background": len(BACKGROUNDS), "pattern": len(PATTERNS), "count": MAX_OBJECTS}
"""Questions about the whole picture."""
ANSWERS = (*CELL.values(), *GROUND.values())


def classes(scene: Scene) -> NDArray[np.int64]:
    """int64 [9, 8]: the answers to `CELL` and `GROUND` for each cell; those to `GROUND` are the same in all."""
    out = np.full((len(POSITIONS), len(ANSWERS)), UNASKED, np.int64)
    out[:, 0] = NOTHING
    ranks = [*range(MAX_OBJECTS), *[UNASKED] * len(POSITIONS)]
    out[:, -3:] = BACKGROUNDS.index(scene.background), PATTERNS.index(scene.pattern), ranks[len(scene.objects) - 1]
    for rank, o in zip(ranks, scene.objects, strict=False):
        answers = SHAPES.index(o.shape), COLOURS.index(o.colour), TEXTURES.index(o.texture), SIZES.index(o.size), rank
        out[POSITIONS.index(o.position), : len(CELL)] = answers
    return out


def cells_of(per_side: int) -> Tensor:
    """int64 [per_side²]: the cell in which the middle of each patch lies."""
    place = (torch.arange(per_side) * 2 + 1) * 3 // (2 * per_side)
    return (place[:, None] * 3 + place[None, :]).flatten()


class PatchHead(nn.Module):
    """Answers from patches: [B, per_side², width] to logits [B, per_side², sum(ANSWERS)]."""

    cells: Tensor

    def __init__(self, width: int, per_side: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, sum(ANSWERS))
        self.register_buffer("cells", cells_of(per_side), persistent=False)

    def loss(self, patches: Tensor, wanted: Tensor) -> Tensor:
        """Mean cross-entropy of all questions, for `wanted` [B, 9, 8]: of each patch, and of a cell's patches together.

        Together they find an object that few of them see; alone they learn to tell one another.
        """
        logits = self.linear(self.norm(patches))
        return (grid_loss(logits, wanted[:, self.cells]) + grid_loss(self._votes(logits), wanted)) / 2

    def _votes(self, logits: Tensor) -> Tensor:
        """[B, 9, sum(ANSWERS)]: the mean of the patches of each cell."""
        votes = logits.new_zeros(len(logits), len(POSITIONS), logits.shape[-1]).float()
        votes = votes.index_add(1, self.cells, logits.float())
        return votes / self.cells.bincount()[:, None]

    def right(self, patches: Tensor, wanted: Tensor) -> dict[str, float]:
        """Share of objects and grounds answered rightly, by question: the patches of a cell vote."""
        votes = self._votes(self.linear(self.norm(patches)))
        out = {}
        for i, (name, part) in enumerate(zip((*CELL, *GROUND), torch.split(votes, list(ANSWERS), dim=-1), strict=True)):
            asked = wanted[..., i] != UNASKED
            if name == "shape":
                asked &= wanted[..., i] != NOTHING  # empty cells are many, and easy
            out[name] = round(float((part.argmax(-1) == wanted[..., i])[asked].float().mean()), 4)
        return out


def grid_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean over questions of the cross-entropy of `logits` [..., sum(ANSWERS)] with classes `wanted` [..., 8]."""
    parts = torch.split(logits.float().flatten(0, -2), list(ANSWERS), dim=-1)
    losses = []
    for i, part in enumerate(parts):
        target = wanted[..., i].flatten()
        total = F.cross_entropy(part, target, ignore_index=UNASKED, reduction="sum")
        losses.append(total / (target != UNASKED).sum().clamp(min=1))  # nobody may be asked
    return torch.stack(losses).mean()
