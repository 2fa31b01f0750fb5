"""A loss or a gradient that is no number ends the run, before a step is taken that would spoil the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from curation.errors import RunError
from curation.train.together import any_rank

LEAST_SCALE = 1.0
"""Of fp16's gradients. It begins at 65,536 and is halved with each step that is left out. What is no number at a scale
below this is no overflow; and once the scale were 0, the next sound step would make the weights NaN."""


def check_finite(
    accelerator: Accelerator,
    value: Tensor,
    what: str,
    step: int,
    keys: Sequence[str],
    losses: Mapping[str, Tensor] | None = None,
) -> None:
    """Raises RunError on all ranks, with the keys of those where `value` is no number: others would wait for it.

    `what` the value is, and the number of its `step`, are told as well.
    """
    wrong = not bool(torch.isfinite(value.detach()))
    if not any_rank(accelerator, wrong):
        return
    mine = [*keys] if wrong else []
    told = gather_object(mine) if accelerator.num_processes > 1 else mine
    parts = [f"{what} is {value.item() if wrong else 'no number'} at step {step}"]
    if losses is not None:
        parts.append(", ".join(f"{name} {loss.mean().item():.4g}" for name, loss in losses.items()))
    raise RunError("; ".join([*parts, f"the keys of the batch: {', '.join(told)}"]))


def overflows(accelerator: Accelerator) -> bool:
    """Whether a gradient that is no number may be fp16's overflow, for which its scaler leaves out the step; the same
    on all ranks."""
    scaler = accelerator.scaler
    return scaler is not None and scaler.get_scale() >= LEAST_SCALE
