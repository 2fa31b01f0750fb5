"""Spectra of pictures whose frequencies are known, and of sharp and of scaled-down scenes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from curation.evaluate.prompts import held_out_prompts
from curation.evaluate.scenes import true_pictures
from curation.evaluate.spectrum import RINGS, HighFrequency, SpectrumDistance, radial_power

SIDE = 64


def grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(levels.round(), 0, 255).astype(np.uint8)).convert("RGB")


def grating(cycles_a_pixel: float, amplitude: float = 80) -> Image.Image:
    wave = amplitude * np.cos(2 * np.pi * cycles_a_pixel * np.arange(SIDE))
    return grey(128 + np.tile(wave, (SIDE, 1)))


def halved(image: Image.Image) -> Image.Image:
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def test_a_grating_stands_in_the_ring_of_its_frequency() -> None:
    for frequency in (0.078125, 0.203125, 0.421875):  # the middles of rings 2, 6 and 13
        power = radial_power(grating(frequency))
        assert power.argmax() == int(frequency * 2 * RINGS)
        near = range(power.argmax() - 1, power.argmax() + 2)  # the window spreads it over a frequency on each side
        assert np.delete(power, near).max() < 1e-4 * power.max()


def test_white_noise_has_its_variance_at_every_frequency() -> None:
    rng = np.random.default_rng(0)
    powers = [radial_power(grey(rng.normal(128, 20, (SIDE, SIDE)))) for _ in range(100)]
    np.testing.assert_allclose(np.mean(powers, axis=0)[1:], 20**2, rtol=0.1)


def test_energy_of_a_grating() -> None:
    reference = HighFrequency([grating(0.375, amplitude=40)])
    found = reference.scores([], [grating(0.375, amplitude=80), grating(0.375, amplitude=40), grating(0.125)])
    assert found[:, 0].tolist() == pytest.approx([4, 1, 0], abs=0.1)


def test_sharp_and_scaled_down_scenes() -> None:
    prompts = held_out_prompts(24, ("dense",))
    reference, sharp = true_pictures(prompts), true_pictures(prompts, "others")
    energy, distance = HighFrequency(reference), SpectrumDistance(reference)

    def measured(images: list[Image.Image]) -> tuple[float, float]:
        return energy.scores(prompts, images).mean(), distance.value(distance.features(images))

    assert measured(reference) == pytest.approx((1, 0))
    ratio, decibels = measured(sharp)
    assert ratio == pytest.approx(1, abs=0.15)
    assert decibels < 1
    soft_ratio, soft_decibels = measured([halved(image) for image in sharp])
    assert soft_ratio < 0.5
    assert soft_decibels > 3 * decibels
    rng = np.random.default_rng(1)
    noisy = [Image.fromarray((np.asarray(i) * 0.7 + rng.uniform(0, 76, (48, 48, 1))).astype(np.uint8)) for i in sharp]
    assert measured(noisy)[0] > 1.2


def test_pictures_that_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="needs 32 pixels a side, not 31×40"):
        radial_power(Image.new("RGB", (31, 40)))
    with pytest.raises(ValueError, match="no detail to compare with"):
        HighFrequency([Image.new("RGB", (SIDE, SIDE), "grey")])
    with pytest.raises(ValueError, match="no reference pictures"):
        SpectrumDistance([])
