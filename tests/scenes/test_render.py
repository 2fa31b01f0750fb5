"""The renderer: same arguments, same pixels; same picture at every size; textures that vanish when scaled down."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from curation.scenes.background import BACKGROUND_RGB
from curation.scenes.render import COLOUR_RGB, Look, render
from curation.scenes.scene import (
    BACKGROUNDS,
    COLOURS,
    PATTERNS,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    SceneObject,
    make_scene,
    random_scene,
)

POSE = Look(jitter=0, grain=0)
STAR = SceneObject(shape="star", colour="red", texture="plain", size="large", position="centre")


def scaled(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def difference(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Mean over all pixels, of 255."""
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())


def test_same_arguments_same_pixels() -> None:
    scene = random_scene(3)
    first = render(scene, 320, 200, seed=5)
    assert first.shape == (200, 320, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, render(scene, 320, 200, seed=5))
    assert difference(first, render(scene, 320, 200, seed=6)) > 0.5


@pytest.mark.parametrize(("width", "height"), [(8, 8), (8, 900), (900, 8), (333, 77), (1, 1), (7, 50)])
def test_any_size_from_8_pixels_on(width: int, height: int) -> None:
    if min(width, height) < 8:
        with pytest.raises(ValueError, match=f"not {width}x{height}"):
            render(random_scene(1), width, height)
        return
    for seed in range(12):
        assert render(random_scene(seed), width, height, seed=seed).shape == (height, width, 3)


def test_a_picture_is_the_same_at_every_size() -> None:
    look = Look(grain=0)
    for seed in range(24):
        scene = random_scene(seed)
        large = render(scene, 1024, 1024, seed=seed, look=look)
        small = render(scene, 256, 256, seed=seed, look=look)
        assert difference(scaled(large, 256), small) < 1.0


@pytest.mark.parametrize("name", TEXTURES[1:])
@pytest.mark.parametrize("colour", COLOURS)
def test_textures_are_there_at_full_size_and_gone_when_scaled_down(name: str, colour: str) -> None:
    objects = [replace(STAR, shape="square", colour=colour, texture=texture) for texture in ("plain", name)]
    plain, textured = (render(make_scene([o], "grey", "plain"), 768, 768, look=POSE) for o in objects)
    inside = slice(310, 458)  # well within the object
    full = difference(plain[inside, inside], textured[inside, inside])
    assert full > 14
    for side in (64, 48):  # a pixel or less for each of the 64 periods
        inside = slice(side * 310 // 768 + 1, side * 458 // 768)
        left = difference(scaled(plain, side)[inside, inside], scaled(textured, side)[inside, inside])
        assert left < full / 4
        drawn = [render(make_scene([o], "grey", "plain"), side, side, look=POSE)[inside, inside] for o in objects]
        np.testing.assert_array_equal(*drawn)


def test_detail_says_how_fine_textures_are() -> None:
    scene = make_scene([replace(STAR, texture="striped")], "grey", "plain")
    plain = render(make_scene([STAR], "grey", "plain"), 64, 64, look=POSE)
    coarse = render(scene, 64, 64, look=replace(POSE, detail=12.0))
    fine = render(scene, 64, 64, look=replace(POSE, detail=64.0))
    assert difference(coarse, plain) > 3 * difference(fine, plain)


@pytest.mark.parametrize(("width", "height"), [(240, 240), (480, 270), (200, 300)])
def test_objects_stand_where_they_are_said_to(width: int, height: int) -> None:
    for index, position in enumerate(POSITIONS):
        scene = make_scene([replace(STAR, shape="circle", size="small", position=position)], "sky", "plain")
        pixels = render(scene, width, height, seed=index).astype(int)
        red = pixels[..., 0] - pixels[..., 2] > 60
        rows, columns = np.nonzero(red)
        assert (rows.mean() * 3 // height, columns.mean() * 3 // width) == divmod(index, 3)


def test_colours_are_what_their_names_say() -> None:
    for colour in COLOURS:
        scene = make_scene([replace(STAR, shape="square", colour=colour)], "sky", "plain")
        middle = render(scene, 300, 300, look=POSE)[120:180, 120:180].reshape(-1, 3).mean(0)
        nearest = min(COLOURS, key=lambda name: np.abs(middle - COLOUR_RGB[name]).sum())
        assert nearest == colour
    for background in BACKGROUNDS:
        corner = render(make_scene([STAR], background, "plain"), 300, 300, look=POSE)[60, 60]
        nearest = min(BACKGROUNDS, key=lambda name: np.abs(corner - np.array(BACKGROUND_RGB[name][0])).sum())
        assert nearest == background


def test_every_word_draws_something_of_its_own() -> None:
    families = {
        "shape": [make_scene([replace(STAR, shape=s)], "sky", "plain") for s in SHAPES],
        "texture": [make_scene([replace(STAR, texture=t)], "sky", "plain") for t in TEXTURES],
        "size": [make_scene([replace(STAR, size=s)], "sky", "plain") for s in SIZES],
        "pattern": [make_scene([STAR], "sky", p) for p in PATTERNS],
    }
    for family, scenes in families.items():
        drawn = [render(scene, 512, 512, look=POSE) for scene in scenes]
        pairs = [(i, j) for i in range(len(drawn)) for j in range(i)]
        assert min(difference(drawn[i], drawn[j]) for i, j in pairs) > 0.4, family


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_objects_stay_apart_and_inside(shape: str) -> None:
    red = [replace(STAR, shape=shape, position=p) for p in ("top left", "top", "left", "centre")]
    for seed in range(4):
        pixels = render(make_scene(red, "sky", "plain"), 360, 360, seed=seed).astype(int)
        body = (pixels[..., 0] - pixels[..., 2] > 60).astype(np.uint8)
        assert cv2.connectedComponents(body)[0] - 1 == 4
        assert not body[0].any()
        assert not body[:, 0].any()


def test_grain_is_slight_and_has_no_bias() -> None:
    scene = make_scene([STAR], "sky", "plain")
    clean, noisy = render(scene, 256, 256, look=POSE), render(scene, 256, 256, look=Look(jitter=0))
    delta = noisy.astype(int) - clean
    assert 1.5 < delta.std() < 3
    assert abs(delta.mean()) < 0.1
    assert np.abs(delta).max() <= 5
