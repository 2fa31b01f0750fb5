"""The whole of an evaluation with metrics that can be worked out by hand: table, sets, kinds, seeds, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from curation.evaluate.evaluate import evaluate, noise_seeds
from curation.evaluate.metric import Floats, Metric, PromptMetric, SetMetric
from curation.evaluate.prompts import Prompt
from curation.evaluate.results import ALL, About, Results

PROMPTS = [Prompt(text=text, kind=kind) for text, kind in (("10", "dense"), ("20", "dense"), ("60", "short"))]


def paint(texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
    """As bright as the prompt says; in a mode that metrics must not see."""
    return [Image.new("L", (2, 2), int(text)) for text in texts]


class Brightness(PromptMetric):
    name = "brightness"
    paper = "none"
    higher_is_better = None

    @property
    def columns(self) -> tuple[str, ...]:
        return "brightness", "brightness.doubled"

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        found = []
        for prompt, image in zip(prompts, images, strict=True):
            level = float(image.getpixel((0, 0))[0])  # type: ignore[index, arg-type]
            found.append((level, 2 * level if prompt.kind == "dense" else math.nan))
        return np.array(found)


class Spread(SetMetric):
    name = "spread"
    paper = "none"
    higher_is_better = False

    def features(self, images: Sequence[Image.Image]) -> Floats:
        return np.array([[float(np.asarray(image).mean())] for image in images])

    def value(self, features: Floats) -> float:
        return float(np.ptp(features)) if len(features) > 1 else math.nan


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_table_and_numbers_of_sets(batch: int) -> None:
    found = evaluate(paint, PROMPTS, [Brightness(), Spread()], batch=batch)
    assert found.scores["brightness"].tolist() == [10, 20, 60]
    np.testing.assert_array_equal(found.scores["brightness.doubled"], [20, 40, math.nan])
    assert found.mean("brightness") == 30
    assert found.mean("brightness", "dense") == 15
    assert found.mean("brightness.doubled") == 30
    assert math.isnan(found.mean("brightness.doubled", "short"))
    assert found.sets["spread"][ALL] == 50
    assert found.sets["spread"]["dense"] == 10
    assert math.isnan(found.sets["spread"]["short"])
    assert found.summary()["brightness"] == {"dense": 15, "short": 60, ALL: 30}
    assert found.about["brightness.doubled"] == About(metric="brightness", paper="none", higher_is_better=None)


def test_every_model_gets_the_same_noise() -> None:
    given: list[list[int]] = []

    def noted(texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        given[-1].extend(seeds)
        return paint(texts, seeds)

    for batch in (1, 3):
        given.append([])
        assert list(evaluate(noted, PROMPTS, [Brightness()], seed=5, batch=batch).seeds) == given[-1]
    assert given[0] == given[1] == noise_seeds(3, 5)
    assert noise_seeds(5, 5)[:3] == given[0]
    assert not set(noise_seeds(100, 5)) & set(noise_seeds(100, 6))
    assert all(0 <= seed < 2**63 for seed in noise_seeds(100, 5))


def test_pictures_can_be_kept() -> None:
    kept: dict[str, int] = {}

    def keep(prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> None:
        kept.update({p.text: i.getpixel((0, 0))[0] for p, i in zip(prompts, images, strict=True)})  # type: ignore

    evaluate(paint, PROMPTS, [Brightness()], batch=2, seen=keep)
    assert kept == {"10": 10, "20": 20, "60": 60}


def test_results_are_json() -> None:
    found = evaluate(paint, PROMPTS, [Brightness(), Spread()])
    written = json.dumps(found.to_json(), allow_nan=False)
    again = Results.from_json(json.loads(written))
    assert again.to_json() == found.to_json()
    assert (again.prompts, again.kinds, again.seeds, again.about) == (
        found.prompts,
        found.kinds,
        found.seeds,
        found.about,
    )
    np.testing.assert_array_equal(again.scores["brightness.doubled"], found.scores["brightness.doubled"])


def test_what_cannot_be_evaluated() -> None:
    with pytest.raises(ValueError, match="two metrics write 'spread'"):
        evaluate(paint, PROMPTS, [Spread(), Spread()])
    with pytest.raises(ValueError, match="no prompts"):
        evaluate(paint, [], [Spread()])
    with pytest.raises(ValueError, match="1 pictures for 3 prompts"):
        evaluate(lambda texts, seeds: paint(texts[:1], seeds), PROMPTS, [Spread()])

    class Neither(Metric):
        name = paper = "neither"

    with pytest.raises(TypeError, match="Neither is neither"):
        evaluate(paint, PROMPTS, [Neither()])
