"""Würstchen's noise: a cosine schedule over continuous time, and what a sample's loss weighs at a time.

Times go from 0, a clean sample, to 1, noise alone. The models predict the noise ε of a noisy input x by two maps a and
b: Stage C says (x - a) / (|1 - b| + 1e-5), so that a fresh one with a = b = 0 says x itself, which is right where all
is noise; Stage B says (x - a) / b with b between 0.001 and 0.999. That is inside the models; both recipes train on what
stands here, and `cascade.py` samples with diffusers' scheduler of the same curve.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

S = 0.008
"""Keeps the schedule from beginning too softly (Nichol & Dhariwal 2021, eq. 17)."""
LEAST, MOST = 1e-4, 0.9999
"""Between these ᾱ is held, so that neither signal nor noise ever vanishes."""
FIRST = 0.001
"""Earliest time that training draws."""


def alpha_bar(times: Tensor) -> Tensor:
    """ᾱ at `times` [B] in [0, 1]: cos²((t + s)/(1 + s)·π/2) over its value at 0, in `LEAST` to `MOST`; [B]."""
    angles = (times + S) / (1 + S) * (math.pi / 2)
    start = math.cos(S / (1 + S) * (math.pi / 2))
    return (angles.cos() / start).square().clamp(LEAST, MOST)


def draw_times(uniform: Tensor, stretch: float = 1.0) -> Tensor:
    """Times [B] in [0.001, 1], float32, for `uniform` [B] in [0, 1).

    With a `stretch` over 1 a share of about 1 - 1/stretch of them is 1: the authors' code takes 1.08.
    """
    return ((1 - uniform) * stretch + FIRST).clamp(FIRST, 1.0).float()


def p2_weights(alpha_bar: Tensor) -> Tensor:
    """Weight a sample [B] for its noise level: 1 / (1 + SNR), which is 1 - ᾱ (Choi et al. 2022, eq. 8, k = γ = 1)."""
    return 1 / (1 + alpha_bar / (1 - alpha_bar))


def prior_points(count: int) -> Tensor:
    """`count` times from 1 to 0 for Stage C, float32: two thirds of them from 1 to 2/3, for what a picture shows is
    decided early. 30 are diffusers' `DEFAULT_STAGE_C_TIMESTEPS`."""
    early = max(1, round(count * 2 / 3))
    late = torch.linspace(2 / 3, 0, count - early + 1, dtype=torch.float64)[1:]
    return torch.cat([torch.linspace(1, 2 / 3, early, dtype=torch.float64), late]).float()
