import numpy as np
import pytest

from curation.pack.frame import contain, cover, stretch


def test_cover_crops_the_centre() -> None:
    frame = cover((2000, 1000), (512, 512))
    assert frame.scaled == (1024, 512)
    assert (frame.crop_left, frame.crop_top) == (256, 0)
    assert frame.content == frame.size == (512, 512)
    assert (frame.pad_left, frame.pad_top, frame.pad_right, frame.pad_bottom) == (0, 0, 0, 0)


def test_contain_pads_on_both_sides() -> None:
    frame = contain((2000, 1000), (513, 513), upscale=False)
    assert frame.content == (513, 256)
    assert (frame.pad_top, frame.pad_bottom) == (128, 129)
    assert (frame.pad_left, frame.pad_right) == (0, 0)


def test_contain_never_enlarges_unless_asked() -> None:
    assert contain((100, 512), (512, 512), upscale=False).content == (100, 512)
    assert contain((100, 50), (512, 512), upscale=False).content == (100, 50)
    assert contain((100, 50), (512, 512), upscale=True).content == (512, 256)


def test_thin_images_keep_a_pixel() -> None:
    assert contain((3000, 2), (512, 512), upscale=False).content == (512, 1)
    assert stretch((3000, 2), (1024, 1)).content == (1024, 1)


def test_random_frames_are_consistent() -> None:
    dice = np.random.default_rng(1)
    for w, h, tw, th in dice.integers(16, 4000, (300, 4)).tolist():
        for frame in (cover((w, h), (tw, th)), contain((w, h), (tw, th), upscale=True)):
            assert frame.crop_left + frame.content[0] <= frame.scaled[0]
            assert frame.crop_top + frame.content[1] <= frame.scaled[1]
            assert frame.content[0] + frame.pad_left + frame.pad_right == tw
            assert frame.content[1] + frame.pad_top + frame.pad_bottom == th
            assert min(frame.pad_left, frame.pad_top, frame.pad_right, frame.pad_bottom) >= 0
            assert frame.scaled[0] / w == pytest.approx(frame.scale_x, abs=0.51 / w)
