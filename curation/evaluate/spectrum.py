"""Sharpness against true pictures, from pixels alone: how much of their fine detail a model's pictures have.

A picture that was learnt from scaled-down ones lacks its highest frequencies. Both metrics need a reference of pictures
of the same size in pixels, best of the same scenes. The ablations of the embedded world call them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from curation.evaluate.metric import Floats, PromptMetric, SetMetric
from curation.evaluate.prompts import Prompt

RINGS = 16
"""Rings of frequencies from 0 to 0.5 cycles a pixel, all of the same width."""
HALF_SIZE = RINGS // 2
"""First ring that a copy of half the size cannot have: 0.25 cycles a pixel."""
ROUNDING = 1 / 12
"""Power of rounding to whole levels: what is less cannot be told from nothing."""


def radial_power(image: Image.Image) -> Floats:
    """Power by frequency, [RINGS]: the mean over directions of a picture's luma spectrum, in levels² (0–255).

    Azimuthal integration as of Durall, Keuper & Keuper 2020, of the picture less its mean under a Hann window
    (edges of a picture that do not meet would add their own frequencies). White noise of variance v has v in every
    ring. Raises ValueError for sides under 2 · RINGS pixels, where rings would be empty.
    """
    return _rings(image)[0]


class HighFrequency(PromptMetric):
    """Each picture's energy at 0.25 to 0.5 cycles a pixel, over the mean energy there of `reference`.

    1 is as in true pictures (in the mean: single ones differ by what they show), less is blur, more is noise.
    """

    name = "high_frequency"
    paper = "Durall, Keuper & Keuper 2020 (spectra by azimuthal integration); the ratio is this project's"
    higher_is_better = None

    def __init__(self, reference: Sequence[Image.Image]) -> None:
        """Raises ValueError where there is none, or where they have no such energy at all."""
        self._mean = float(np.mean([_energy(image) for image in reference])) if reference else 0.0
        if not self._mean > 0:
            raise ValueError("the reference pictures have no detail to compare with")

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        return np.array([[_energy(image) / self._mean] for image in images], np.float64)


class SpectrumDistance(SetMetric):
    """Mean over the rings of how far the pictures' mean power is from that of `reference`, either way, in dB."""

    name = "spectrum_distance"
    paper = "Durall, Keuper & Keuper 2020 (spectra by azimuthal integration); the distance is this project's"
    higher_is_better = False

    def __init__(self, reference: Sequence[Image.Image]) -> None:
        """Raises ValueError where there is none."""
        if not reference:
            raise ValueError("no reference pictures")
        self._decibels = _decibels(self.features(reference))

    def features(self, images: Sequence[Image.Image]) -> Floats:
        return np.stack([radial_power(image) for image in images])

    def value(self, features: Floats) -> float:
        return float(np.abs(_decibels(features) - self._decibels).mean()) if len(features) else float("nan")


def _rings(image: Image.Image) -> tuple[Floats, Floats]:
    """Mean power of each ring, and the share of all frequencies that lie in it."""
    luma = np.asarray(image.convert("RGB"), np.float64) @ (0.299, 0.587, 0.114)
    height, width = luma.shape
    if min(height, width) < 2 * RINGS:
        raise ValueError(f"a spectrum needs {2 * RINGS} pixels a side, not {width}×{height}")
    window = np.hanning(height + 1)[:-1, None] * np.hanning(width + 1)[:-1]
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    # Corners reach to 0.7 cycles a pixel; what is over 0.5 goes into a ring of its own, which is let go.
    ring = np.minimum((radius * 2 * RINGS).astype(np.int64), RINGS).ravel()
    counts = np.bincount(ring, minlength=RINGS + 1)[:RINGS]
    sums = np.bincount(ring, weights=power.ravel(), minlength=RINGS + 1)[:RINGS]
    return sums / counts, counts / luma.size


def _energy(image: Image.Image) -> float:
    """Variance in levels² that lies at 0.25 to 0.5 cycles a pixel."""
    power, shares = _rings(image)
    return float((power * shares)[HALF_SIZE:].sum())


def _decibels(powers: Floats) -> Floats:
    decibels: Floats = 10 * np.log10(powers.mean(axis=0) + ROUNDING)
    return decibels
