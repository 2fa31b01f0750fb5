"""The schedule against values worked out by hand, and against diffusers' scheduler."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMWuerstchenScheduler

from curation.distill.losses import add_noise
from curation.wuerstchen.schedule import alpha_bar, draw_times, p2_weights, prior_points


def test_alpha_bar_is_a_cosine_held_off_its_ends() -> None:
    found = alpha_bar(torch.tensor([0.0, 0.5, 0.9, 1.0]))
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert start == pytest.approx(0.999845, abs=1e-6)
    middle = math.cos(0.508 / 1.008 * math.pi / 2) ** 2 / start  # 0.49377 / 0.99984
    assert middle == pytest.approx(0.49384, abs=1e-5)
    late = math.cos(0.908 / 1.008 * math.pi / 2) ** 2 / start
    assert found.tolist() == pytest.approx([0.9999, middle, late, 0.0001], abs=1e-6)


def test_it_is_the_schedule_of_diffusers() -> None:
    scheduler = DDPMWuerstchenScheduler()
    times = torch.linspace(0, 1, 41)
    assert alpha_bar(times).equal(scheduler._alpha_cumprod(times, torch.device("cpu"))) or torch.allclose(
        alpha_bar(times), scheduler._alpha_cumprod(times, torch.device("cpu")), atol=1e-6
    )
    clean, noise = torch.randn(2, 41, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(add_noise(clean, noise, alpha_bar(times)), scheduler.add_noise(clean, noise, times))


def test_p2_weighs_by_one_over_one_and_the_signal_to_noise_ratio() -> None:
    ratios = torch.tensor([0.8, 0.5, 0.2])  # SNR 4, 1, 1/4
    assert p2_weights(ratios).tolist() == pytest.approx([1 / 5, 1 / 2, 4 / 5])


def test_times_are_never_zero_and_the_stretch_makes_some_one() -> None:
    even = torch.arange(1000, dtype=torch.float64) / 1000
    plain = draw_times(even)
    assert plain.dtype == torch.float32
    assert plain.max() == 1
    assert plain.min() == pytest.approx(0.002)
    assert (plain == 1).sum() <= 2
    share = (draw_times(even, 1.08) == 1).double().mean().item()
    assert share == pytest.approx(1 - 0.999 / 1.08, abs=2e-3)


def test_the_authors_points_of_time() -> None:
    from diffusers.pipelines.deprecated.wuerstchen import DEFAULT_STAGE_C_TIMESTEPS

    assert prior_points(30).tolist() == pytest.approx(DEFAULT_STAGE_C_TIMESTEPS, abs=1e-7)
    assert prior_points(3).tolist() == pytest.approx([1, 2 / 3, 0])
