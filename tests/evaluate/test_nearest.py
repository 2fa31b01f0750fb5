"""Distances to the nearest training picture, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from curation.evaluate import nearest
from curation.evaluate.nearest import Nearest, nearest_distance
from curation.evaluate.prompts import Prompt

TRAINING = [[0.0, 0.0], [10.0, 0.0], [3.0, 4.0]]


def test_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    for block in (1, 2, 100):
        monkeypatch.setattr(nearest, "BLOCK", block)
        found = nearest_distance([[10.0, 0.0], [0.0, -1.0], [6.0, 8.0]], TRAINING)
        assert found.tolist() == pytest.approx([0, 1, 5], abs=1e-6)
    with pytest.raises(ValueError, match="no training pictures"):
        nearest_distance([[1.0]], np.zeros((0, 1)))


def test_a_copy_of_a_training_picture_has_none() -> None:
    def mean_colour(images: list[Image.Image]) -> np.ndarray:
        return np.array([np.asarray(image).mean(axis=(0, 1)) for image in images])

    seen = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    metric = Nearest(mean_colour, mean_colour(seen))
    prompts = [Prompt(text="", kind="short")] * 2
    assert metric.scores(prompts, [seen[1], Image.new("RGB", (8, 8), (255, 7, 0))]).tolist() == [[0.0], [7.0]]
