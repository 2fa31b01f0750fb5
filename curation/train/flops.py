"""FLOPs of a pass, counted by torch from the shapes of its matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def flops_of(work: Callable[[], None]) -> int:
    """Floating-point operations (a multiplication and an addition count as two) of `work`, forward and back."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
