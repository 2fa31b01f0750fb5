import math

import numpy as np
import pytest

from curation.config import PackSettings
from curation.pack.buckets import Buckets, parse_size, sdxl_sizes, targets


def of(width: int, height: int, **settings: object) -> tuple[str, bool]:
    found = targets(np.array([width]), np.array([height]), PackSettings.model_validate(settings))
    return found.names()[0], bool(found.too_small[0])


def test_table_of_the_paper() -> None:
    sizes = sdxl_sizes(1024)
    assert len(set(sizes)) == 40
    assert (1024, 1024) in sizes
    assert (1344, 704) in sizes
    assert (704, 1344) not in sizes
    mirrored = {(h, w) for w, h in sizes} ^ set(sizes)
    assert mirrored == {(1344, 704), (704, 1344)}
    for width, height in sizes:
        assert width % 64 == height % 64 == 0
        assert 0.9 < width * height / 1024**2 <= 1


@pytest.mark.parametrize(("resolution", "step"), [(2048, 64), (1024, 64), (768, 32), (512, 32), (256, 16), (128, 8)])
def test_scaled_tables(resolution: int, step: int) -> None:
    sizes = sdxl_sizes(resolution)
    assert (resolution, resolution) in sizes
    for (width, height), (w, h) in zip(sizes, sdxl_sizes(1024), strict=True):
        assert width % step == height % step == 0
        assert abs(width - w * resolution / 1024) <= step / 2
        assert abs(height - h * resolution / 1024) <= step / 2


def test_smallest_resolution_still_has_buckets() -> None:
    assert all(width >= 8 and height >= 8 for width, height in sdxl_sizes(16))
    assert of(640, 640, resolution=16) == ("16x16", False)


def test_nearest_in_log_aspect() -> None:
    sizes = Buckets(sdxl_sizes(1024)).sizes
    dice = np.random.default_rng(0)
    widths, heights = dice.integers(1, 5000, (2, 500))
    chosen = [sizes[i] for i in Buckets(sdxl_sizes(1024)).nearest(widths, heights)]
    for w, h, (bw, bh) in zip(widths, heights, chosen, strict=True):
        apart = [abs(math.log(w / h) - math.log(x / y)) for x, y in sizes]
        assert abs(math.log(w / h) - math.log(bw / bh)) == pytest.approx(min(apart))


def test_halfway_is_the_geometric_mean() -> None:
    settings = {"buckets": [[100, 100], [400, 100]]}
    assert of(1999, 1000, **settings)[0] == "100x100"
    assert of(2001, 1000, **settings)[0] == "400x100"  # the arithmetic mean of 1 and 4 would be 2.5


@pytest.mark.parametrize(("size", "bucket"), [((40000, 10), "2048x512"), ((10, 40000), "512x2048")])
def test_extreme_aspects_take_the_last_bucket(size: tuple[int, int], bucket: str) -> None:
    assert of(*size, upscale=True) == (bucket, False)
    assert of(*size) == (bucket, True)


def test_too_small_for_crop_and_for_pad() -> None:
    assert of(1024, 1024) == ("1024x1024", False)
    assert of(1023, 1024) == ("1024x1024", True)
    assert of(1024, 1023) == ("1024x1024", True)
    assert of(1023, 1024, fit="pad") == ("1024x1024", False)  # touches top and bottom
    assert of(1023, 1023, fit="pad") == ("1024x1024", True)
    assert of(8, 8, upscale=True) == ("1024x1024", False)


def test_largest_of_several_with_one_aspect() -> None:
    assert of(3000, 3000, buckets=[[512, 512], [1024, 1024], [768, 768]]) == ("1024x1024", False)


@pytest.mark.parametrize(
    ("size", "upscale", "name"),
    [
        ((4000, 3000), False, "1024x768"),
        ((3000, 4000), False, "768x1024"),
        ((1023, 1000), False, "1023x1000"),
        ((512, 256), True, "1024x512"),
        ((30000, 3), False, "1024x1"),
        ((1, 5000), False, "1x1024"),
    ],
)
def test_without_buckets_the_aspect_stays(size: tuple[int, int], upscale: bool, name: str) -> None:
    assert of(*size, buckets="none", upscale=upscale) == (name, False)


def test_names_read_back() -> None:
    assert parse_size(of(1600, 1200)[0]) == (1152, 896)
