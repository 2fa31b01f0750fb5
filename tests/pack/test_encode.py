import io
import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from curation.config import PackSettings
from curation.errors import CorruptionError
from curation.pack.encode import encode_image, use_one_thread
from curation.pack.frame import Frame, contain, cover, stretch
from tests.pack.make_bank import encoded, pixels
from tests.shared import shared

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    use_one_thread()
    yield
    Image.MAX_IMAGE_PIXELS = limit


def resized(data: bytes, frame: Frame, stored_format: str = "jpg", **settings: Any) -> Pixels:
    """What `encode_image` makes of `data`, without the loss of a JPEG."""
    made = encode_image(data, stored_format, frame, PackSettings(format="png", **settings))
    return np.asarray(Image.open(io.BytesIO(made)))


def psnr(a: Pixels, b: Pixels) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def area(image: Pixels, frame: Frame) -> Pixels:
    """The reference: OpenCV's box filter at the exact scale, then the crop."""
    whole = cv2.resize(image, None, fx=frame.scale_x, fy=frame.scale_y, interpolation=cv2.INTER_AREA)
    (x, y), (w, h) = (frame.crop_left, frame.crop_top), frame.content
    return whole[y : y + h, x : x + w]  # type: ignore[return-value]


def lanczos(image: Pixels, frame: Frame) -> Pixels:
    x, y = frame.crop_left / frame.scale_x, frame.crop_top / frame.scale_y
    w, h = frame.content[0] / frame.scale_x, frame.content[1] / frame.scale_y
    box = (x, y, min(image.shape[1], x + w), min(image.shape[0], y + h))
    return np.asarray(Image.fromarray(image).resize(frame.content, Image.Resampling.LANCZOS, box))


@pytest.mark.parametrize("stored_format", ["jpg", "png", "webp"])
@pytest.mark.parametrize("size", [(517, 401), (640, 480), (1001, 777), (1301, 867), (130, 97)])
def test_near_the_box_filter_at_any_scale(stored_format: str, size: tuple[int, int]) -> None:
    image = cv2.GaussianBlur(pixels(3, size), (5, 5), 1.2)  # as sharp as a camera's
    data = encoded(image, stored_format)  # type: ignore[arg-type]
    stored = np.asarray(Image.open(io.BytesIO(data)))
    for frame in (cover(size, (128, 96)), cover(size, (96, 96)), stretch(size, (120, round(120 * size[1] / size[0])))):
        made = resized(data, frame, stored_format)
        assert made.shape == (*frame.size[::-1], 3)
        assert psnr(made, area(stored, frame)) > 45


@pytest.mark.parametrize("name", ["ashim-dsilva", "martin-adams", "photo-by-spacex", "viktor-forgacs"])
def test_photos_stay_near_their_references(name: str) -> None:
    data = (shared("photos") / f"{name}.jpg").read_bytes()
    image = simplejpeg.decode_jpeg(data)
    frame = cover((image.shape[1], image.shape[0]), (1216, 832))  # 2.0 to 4.8 pixels of the photo a pixel
    box, ideal = area(image, frame), lanczos(image, frame)
    made = resized(data, frame)
    assert psnr(made, box) >= 45
    assert psnr(made, ideal) >= psnr(box, ideal) - 2
    assert psnr(resized(data, frame, filter="lanczos"), ideal) >= 50


@pytest.mark.parametrize("step", [1.5, 1.75, 2.0, 2.3])
def test_folds_back_no_more_than_the_box_filter(step: float) -> None:
    """A zone plate: what lies beyond the target's Nyquist frequency should become flat grey."""
    side = 1200
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    plate = np.repeat((127.5 + 127.5 * np.cos(np.pi * (x * x + y * y) / side))[..., None], 3, 2).round()
    image = plate.astype(np.uint8)
    frame = stretch((side, side), (round(side / step),) * 2)
    beyond = np.maximum(abs(x), abs(y)) > side / 2 / step * 1.1
    beyond = cv2.resize(beyond.astype(np.uint8), frame.size, interpolation=cv2.INTER_NEAREST) > 0
    left = {name: float(made[beyond].std()) for name, made in (
        ("ours", resized(encoded(image, "png"), frame, "png")),
        ("box", area(image, frame)),
        ("none", cv2.resize(image, frame.size, interpolation=cv2.INTER_CUBIC)),
    )}  # fmt: skip
    assert left["ours"] <= left["box"] * 1.02
    assert left["ours"] < left["none"] / 2


def test_same_size_is_not_resampled() -> None:
    image = pixels(1, (160, 120))
    data = encoded(image, "png")
    assert (resized(data, cover((160, 120), (160, 120)), "png") == image).all()
    assert (resized(data, cover((160, 120), (128, 120)), "png") == image[:, 16:144]).all()


def marked(size: tuple[int, int]) -> Pixels:
    """Grey, with a red centre of a fifth and a blue frame of a tenth on every side."""
    width, height = size
    image = np.full((height, width, 3), 128, np.uint8)
    image[: height // 10], image[-(height // 10) :] = (0, 0, 255), (0, 0, 255)
    image[:, : width // 10], image[:, -(width // 10) :] = (0, 0, 255), (0, 0, 255)
    image[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5] = (255, 0, 0)
    return image


@pytest.mark.parametrize("filter", ["bicubic", "lanczos"])
@pytest.mark.parametrize("stored_format", ["jpg", "png"])
@pytest.mark.parametrize("size", [(400, 200), (1203, 601), (2000, 1000)])
def test_crop_takes_the_centre(size: tuple[int, int], stored_format: str, filter: str) -> None:
    made = resized(encoded(marked(size), stored_format), cover(size, (100, 100)), stored_format, filter=filter)
    middle = np.abs(made[50, :].astype(int) - (255, 0, 0)).sum(1) < 60
    left, right = int(middle.argmax()), int(100 - middle[::-1].argmax())
    assert abs(left - 30) <= 1
    assert abs(right - 70) <= 1
    assert (np.abs(made[:4].astype(int) - (0, 0, 255)).sum(2) < 60).all()  # nothing is cut off above
    assert (np.abs(made[50, :2].astype(int) - 128).sum(1) < 60).all()  # the frame at the sides is


@pytest.mark.parametrize("filter", ["bicubic", "lanczos"])
def test_pad_keeps_everything_on_white(filter: str) -> None:
    size = (400, 200)
    made = resized(encoded(marked(size), "png"), contain(size, (100, 100), upscale=False), "png", filter=filter)
    assert (made[:25] == 255).all()
    assert (made[75:] == 255).all()
    assert (np.abs(made[25:75, :8].astype(int) - (0, 0, 255)).sum(2) < 60).all()
    assert (np.abs(made[25:75, -8:].astype(int) - (0, 0, 255)).sum(2) < 60).all()
    assert np.abs(made[50, 50].astype(int) - (255, 0, 0)).sum() < 60


@pytest.mark.parametrize("filter", ["bicubic", "lanczos"])
def test_upscale_when_asked(filter: str) -> None:
    size = (50, 40)
    made = resized(encoded(marked(size), "png"), cover(size, (200, 200)), "png", filter=filter)
    assert made.shape == (200, 200, 3)
    assert np.abs(made[100, 100].astype(int) - (255, 0, 0)).sum() < 60


def test_formats_and_quality() -> None:
    image = pixels(2, (300, 200))
    data, frame = encoded(image, "png"), cover((300, 200), (300, 200))
    sizes = {}
    for name, quality, kind in [("jpg", 95, "JPEG"), ("jpg", 60, "JPEG"), ("webp", 80, "WEBP"), ("webp", 100, "WEBP")]:
        made = encode_image(data, "png", frame, PackSettings(format=name, quality=quality))
        with Image.open(io.BytesIO(made)) as opened:
            assert (opened.format, opened.size, opened.mode) == (kind, (300, 200), "RGB")
            lossless = (np.asarray(opened) == image).all()
        assert lossless == ((name, quality) == ("webp", 100))
        sizes[name, quality] = len(made)
    assert sizes["jpg", 60] < sizes["jpg", 95]
    assert sizes["webp", 80] < sizes["webp", 100]


def test_jpegs_that_are_no_rgb() -> None:
    frame = cover((300, 200), (150, 100))
    grey, ink = io.BytesIO(), io.BytesIO()
    Image.new("L", (300, 200), 77).save(grey, "JPEG")
    Image.new("CMYK", (300, 200), (255, 0, 0, 0)).save(ink, "JPEG")
    assert np.abs(resized(grey.getvalue(), frame).astype(int) - 77).max() <= 1
    assert resized(ink.getvalue(), frame)[50, 50].tolist() == pytest.approx([0, 255, 255], abs=3)


@pytest.mark.parametrize("stored_format", ["jpg", "png", "webp"])
def test_damaged_bytes_are_told(stored_format: str) -> None:
    frame = cover((300, 200), (150, 100))
    data = encoded(pixels(5, (300, 200)), stored_format)
    for bad in (data[: len(data) // 2], b"", b"GIF89a" + data, b"\0" * 30 + data[30:]):
        with pytest.raises(CorruptionError, match="stored image"):
            encode_image(bad, stored_format, frame, PackSettings())


def test_a_size_other_than_the_row_says_is_told() -> None:
    data = encoded(pixels(5, (300, 200)))
    with pytest.raises(CorruptionError, match=r"\(300, 200\) pixels, not \(200, 300\)"):
        encode_image(data, "jpg", cover((200, 300), (100, 100)), PackSettings())
