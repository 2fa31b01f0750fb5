"""The judge reads renders whose truth is known, and says nothing of pictures of nothing."""

from __future__ import annotations

import numpy as np
import pytest

from curation.scenes import judge_report
from curation.scenes.judge import read_scene
from curation.scenes.judge.measure import ATTRIBUTES, Tally
from curation.scenes.render import render
from curation.scenes.scene import SceneObject, make_scene
from curation.scenes.studio import LOOK, STUDIO, studio_picture, studio_scene


def studio_tally(count: int, times: int) -> Tally:
    tally = Tally()
    for index in range(count):
        scene = studio_scene(("test of the judge", index), held_out=True)
        pixels = studio_picture(scene, index)
        if times > 1:
            pixels = judge_report.scaled(pixels, times)
        tally.add(scene, read_scene(pixels, STUDIO, LOOK))
    return tally


def test_it_reads_the_studio() -> None:
    accuracy = studio_tally(60, 1).accuracy()
    assert {name: share for name, share in accuracy.items() if share < 0.97} == {}


def test_texture_and_shape_vanish_with_resolution() -> None:
    native, half, quarter = (studio_tally(40, times).accuracy() for times in (1, 2, 4))
    assert native["texture"] > 0.97 > 0.7 > quarter["texture"]
    assert native["shape"] > 0.97 > 0.9 > quarter["shape"]
    assert quarter["texture"] <= half["texture"]
    assert quarter["background"] > 0.95  # what is coarse stays


def test_it_reads_generated_looking_pictures() -> None:
    tally = Tally()
    for index in range(40):
        scene = studio_scene(("test of the judge", index), held_out=True)
        pixels = judge_report.generated(studio_picture(scene, index), f"test {index}")
        tally.add(scene, read_scene(pixels, STUDIO, LOOK))
    accuracy = tally.accuracy()
    assert {name: share for name in ATTRIBUTES if (share := accuracy[name]) < 0.93} == {}


def test_it_reads_the_whole_world_as_the_web_serves_it() -> None:
    tally = Tally()
    for index in range(20):
        truth, pixels = judge_report.native(f"test {index}")
        tally.add(truth, read_scene(pixels))
    accuracy = tally.accuracy()
    assert {name: share for name in ATTRIBUTES if (share := accuracy[name]) < 0.95} == {}


def test_readings_come_back_as_scenes_and_say_how_sure_they_are() -> None:
    scene = make_scene(
        [
            SceneObject(shape="ring", colour="orange", texture="plain", size="small", position="centre"),
            SceneObject(shape="star", colour="red", texture="striped", size="large", position="top left"),
        ],
        "sky",
        "waves",
    )
    reading = read_scene(render(scene, 900, 600, seed=3))
    assert reading.scene() == scene
    assert [cell.position for cell in reading.cells if cell.present] == ["top left", "centre"]
    for cell in reading.found:
        for finding in (cell.shape, cell.size, cell.colour, cell.texture):
            assert 0.2 < finding.sure <= 1
    assert all(cell.sure > 0.5 for cell in reading.cells)


@pytest.mark.parametrize("kind", ["white noise", "noise around a colour", "soft noise", "blobs"])
def test_it_abstains_on_noise(kind: str) -> None:
    for index in range(4):
        small, large = (judge_report.noises(side, f"test {index}")[kind] for side in (64, 512))
        for reading in (read_scene(small, STUDIO, LOOK), read_scene(large)):
            assert reading.scene() is None
            assert [word for cell in reading.found for word in cell.words if word is not None] == []


def test_scribbles_have_no_shape() -> None:
    cells = []
    for index in range(12):
        reading = read_scene(judge_report.noises(64, f"test {index}")["scribbles"], STUDIO, LOOK)
        assert reading.background.word is not None
        assert reading.scene() is None
        cells += reading.found
    assert len(cells) > 30
    assert sum(cell.shape.word is not None for cell in cells) <= 1  # a blot may be round


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_are_no_background(level: int) -> None:
    reading = read_scene(np.full((64, 64, 3), level, np.uint8), STUDIO, LOOK)
    assert reading.background.word is None
    assert reading.found == ()


def test_an_empty_stage_is_no_scene() -> None:
    scene = studio_scene("empty", held_out=True)
    pixels = studio_picture(scene, 0)
    corner = pixels[28:34, 0:4].reshape(-1, 3).mean(axis=0)
    reading = read_scene(np.full_like(pixels, corner.astype(np.uint8)), STUDIO, LOOK)
    assert reading.background.word == scene.background
    assert reading.found == ()
    assert reading.scene() is None


@pytest.mark.parametrize(
    "pixels", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32), np.zeros((16, 64, 3), np.uint8)]
)
def test_it_refuses_what_is_no_picture(pixels: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="a picture is uint8"):
        read_scene(pixels)


def test_the_report_has_every_arm_and_table() -> None:
    report = judge_report.measure(4)
    arms = [arm.name for arm in judge_report.arms()]
    text = judge_report.text(report, tuple(arms[:1]))
    assert all(f"| {name} |" in text for name in arms)
    assert "studio native, shape (rows: truth)" in text
    table = report["arms"]["studio native"]["confusion"]["position"]  # type: ignore[index]
    assert sum(map(sum, table["counts"])) == 4 * 9
