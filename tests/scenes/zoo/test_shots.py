"""Pictures for training look like those that the score stage decodes, and batches ahead are the same batches."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from curation.scenes.scene import random_scene
from curation.scenes.studio import is_held_out
from curation.scenes.zoo.ahead import Ahead
from curation.scenes.zoo.shots import Shot, shot, squeezed

SHOTS = [shot(("test", i)) for i in range(40)]


def test_shots_are_a_pure_function_and_divided() -> None:
    assert [shot(("test", i)) for i in range(40)] == SHOTS
    assert not any(is_held_out(s.scene) for s in SHOTS)
    held_out = [shot(i, held_out=True) for i in range(10)]
    assert all(is_held_out(s.scene) for s in held_out)
    assert all(s.scene == random_scene(s.seed) for s in SHOTS + held_out)
    assert {s.effect for s in SHOTS} == {"none", "blurred", "watermarked"}


@pytest.mark.parametrize("effect", ["none", "blurred", "watermarked"])
def test_a_look_is_what_the_decoder_gives(effect: str) -> None:
    picture = next(s for s in SHOTS if s.effect == effect)
    real = squeezed(picture.decoded(144), 144).astype(float)
    drawn = picture.look(144).astype(float)
    assert drawn.shape == (144, 144, 3)
    off = np.sqrt(((real - drawn) ** 2).mean())
    other = np.sqrt(((real - next(s for s in SHOTS if s.scene != picture.scene).look(144)) ** 2).mean())
    assert off < 0.3 * other


def test_a_poor_look_has_lost_detail() -> None:
    picture = next(s for s in SHOTS if s.effect == "none" and s.scene.objects[0].texture == "dotted")
    fine, poor = (np.diff(picture.look(192, short).astype(float), axis=1).std() for short in (256, 64))
    assert poor < 0.8 * fine


def sides(base: int, step: int) -> Shot:
    return shot((base, step))


def test_batches_made_ahead_are_those_made_on_demand() -> None:
    make = partial(sides, 7)
    with Ahead(make) as ahead, Ahead(make, 0) as at_once:
        assert [ahead(step) for step in range(3, 12)] == [at_once(step) for step in range(3, 12)]
        assert ahead(100) == make(100)
