"""Losses against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from curation.distill.losses import (
    add_noise,
    feature_loss,
    min_snr_weights,
    squared_error,
    training_target,
)


def test_targets_and_noise_are_one_rotation() -> None:
    clean, noise = torch.full((1, 1, 1, 2), 2.0), torch.full((1, 1, 1, 2), 3.0)
    alpha_bar = torch.tensor([0.64])
    noisy = add_noise(clean, noise, alpha_bar)
    assert noisy.flatten().tolist() == pytest.approx([0.8 * 2 + 0.6 * 3] * 2)
    v = training_target("v_prediction", clean, noise, alpha_bar)
    assert v.flatten().tolist() == pytest.approx([0.8 * 3 - 0.6 * 2] * 2)
    assert (0.8 * noisy - 0.6 * v).flatten().tolist() == pytest.approx([2.0] * 2), "v and the noisy sample give x0"
    assert (0.6 * noisy + 0.8 * v).flatten().tolist() == pytest.approx([3.0] * 2), "and the noise"
    assert training_target("epsilon", clean, noise, alpha_bar) is noise
    assert training_target("sample", clean, noise, alpha_bar) is clean
    with pytest.raises(ValueError, match="unknown prediction type 'x'"):
        training_target("x", clean, noise, alpha_bar)


def test_squared_error_is_a_mean_a_sample_in_float32() -> None:
    found = torch.tensor([[1.0, 3.0], [0.0, 0.0]], dtype=torch.bfloat16)
    wanted = torch.tensor([[1.0, 1.0], [2.0, 4.0]])
    error = squared_error(found, wanted)
    assert error.dtype == torch.float32
    assert error.tolist() == [2.0, 10.0]


def test_feature_loss_adds_places_plainly() -> None:
    student = {"a": torch.zeros(2, 4), "b": torch.ones(2, 2, 2)}
    teacher = {"a": torch.tensor([[2.0] * 4, [0.0] * 4]), "b": torch.full((2, 2, 2), 4.0)}
    assert feature_loss(student, teacher).tolist() == [4.0 + 9.0, 0.0 + 9.0]
    with pytest.raises(ValueError, match=r"different places: \['b'\]"):
        feature_loss(student, {"a": teacher["a"]})


def test_min_snr() -> None:
    alpha_bar = torch.tensor([0.9, 0.5, 0.1])  # SNR 9, 1, 1/9
    assert min_snr_weights(alpha_bar, 5, "epsilon").tolist() == pytest.approx([5 / 9, 1, 1])
    assert min_snr_weights(alpha_bar, 5, "v_prediction").tolist() == pytest.approx([5 / 10, 1 / 2, (1 / 9) / (10 / 9)])
    assert min_snr_weights(alpha_bar, 5, "sample").tolist() == pytest.approx([5, 1, 1 / 9])
