"""Losses of distillation as pure functions over tensors; no model, no state.

All are means of squared errors in float32, one number a sample ([B]), so that a weight a sample (`min_snr_weights`)
and a reduction over uneven ranks stay possible. KOALA adds task, output and feature loss plainly (Lee et al. 2024, eq.
1–3).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def training_target(prediction: str, clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What the model shall say of `sqrt(ᾱ) clean + sqrt(1-ᾱ) noise`; all [B, C, H, W], ᾱ [B].

    `epsilon`: the noise (Ho et al. 2020, eq. 14); `v_prediction`: sqrt(ᾱ) noise - sqrt(1-ᾱ) clean (Salimans & Ho 2022,
    appendix D); `sample`: the clean latents. Raises ValueError for another word.
    """
    if prediction == "epsilon":
        return noise
    if prediction == "sample":
        return clean
    if prediction == "v_prediction":
        shape = (-1, *[1] * (clean.dim() - 1))
        return alpha_bar.sqrt().view(shape) * noise - (1 - alpha_bar).sqrt().view(shape) * clean
    raise ValueError(f"unknown prediction type {prediction!r}")


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """`sqrt(ᾱ) clean + sqrt(1-ᾱ) noise` (Ho et al. 2020, eq. 4); [B, C, H, W], `alpha_bar` [B]."""
    shape = (-1, *[1] * (clean.dim() - 1))
    return alpha_bar.sqrt().view(shape) * clean + (1 - alpha_bar).sqrt().view(shape) * noise


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error a sample: [B, …] to [B], in float32."""
    return (found.float() - wanted.float()).square().flatten(1).mean(1)  # keeps one copy for the way back, not two


def feature_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Sum over places of the mean squared error of features, a sample: [B] (KOALA, eq. 3).

    Both map the student's places to tensors of equal shapes [B, …]; raises ValueError where places differ.
    """
    if student.keys() != teacher.keys():
        raise ValueError(f"features of different places: {sorted(student.keys() ^ teacher.keys())[:4]}")
    parts = [squared_error(student[place], teacher[place]) for place in student]
    return torch.stack(parts).sum(0)


def min_snr_weights(alpha_bar: Tensor, gamma: float, prediction: str) -> Tensor:
    """Weight a sample [B] for its noise level: min(SNR, γ) over what the target has (Hang et al. 2023, §3.4).

    SNR = ᾱ / (1-ᾱ). For ε the loss is divided by SNR, for v by SNR + 1, for x₀ by nothing.
    """
    snr = alpha_bar / (1 - alpha_bar)
    clipped = torch.clamp(snr, max=gamma)
    if prediction == "epsilon":
        return clipped / snr
    if prediction == "v_prediction":
        return clipped / (snr + 1)
    if prediction == "sample":
        return clipped
    raise ValueError(f"unknown prediction type {prediction!r}")
