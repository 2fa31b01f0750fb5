"""Random numbers of a training step, a pure function of (seed, step, place in the global batch, what they are for).

They are drawn for each sample alone and on the CPU, so a rank draws the same for a sample whatever the number of ranks,
and a resumed run the same as an unbroken one: there is no generator whose state had to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from curation.stream.order import key_of


@dataclass(frozen=True)
class Draws:
    """The numbers of one rank's share of a global batch."""

    seed: int
    step: int
    """Number of the batch since the training began."""
    first: int
    """Place of the share's first sample in the global batch."""

    def normal(self, what: str, count: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32 [count, *shape], on the CPU."""
        return torch.stack([torch.randn(shape, generator=self._generator(what, i)) for i in range(count)])

    def uniform(self, what: str, count: int) -> Tensor:
        """Uniform in [0, 1), float64 [count]."""
        return torch.stack(
            [torch.rand((), generator=self._generator(what, i), dtype=torch.float64) for i in range(count)]
        )

    def integers(self, what: str, count: int, below: int) -> Tensor:
        """Uniform whole numbers under `below`, int64 [count]."""
        return torch.stack([torch.randint(below, (), generator=self._generator(what, i)) for i in range(count)])

    def _generator(self, what: str, place: int) -> torch.Generator:
        key = key_of(self.seed, self.step, what, self.first + place)
        return torch.Generator().manual_seed(key >> 1)  # torch takes 63 bits
