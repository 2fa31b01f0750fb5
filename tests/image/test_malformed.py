"""Real malformed files: each ends in exactly one outcome, no metadata gets through, and no process dies of them."""

from __future__ import annotations

import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curation.config import FetchSettings
from curation.image.decoder import Checked
from curation.image.pool import DecoderPool
from curation.row import Outcome, Reason
from tests.image.samples import opened
from tests.shared import shared


@pytest.fixture(scope="module")
def corpus() -> list[tuple[Path, Checked]]:
    """Every file of the corpora of Pillow and image-rs, checked by two children that nothing replaces."""
    paths = sorted(p for p in shared("malformed").glob("*/*") if p.is_file())
    with DecoderPool(FetchSettings(), 2) as pool, ThreadPoolExecutor(2) as threads:
        pool.check_now(paths[0].read_bytes())
        checked = list(threads.map(lambda path: pool.check_now(path.read_bytes()), paths))
        assert pool.starts <= 2, "a file killed its decoder"
    return list(zip(paths, checked, strict=True))


def test_every_file_has_one_outcome(corpus: list[tuple[Path, Checked]]) -> None:
    outcomes = Counter(checked.verdict.outcome for _, checked in corpus)
    assert sum(outcomes.values()) == len(corpus) >= 1357
    assert set(outcomes) == set(Outcome)
    for path, checked in corpus:
        kept = checked.verdict.reason is None
        assert (checked.stored is not None) is kept, path.name
        assert kept or checked.verdict.detail, path.name
        needed = {name: value for name, value in checked.columns().items() if name != "phash"}
        assert not kept or None not in needed.values(), path.name


def test_reasons(corpus: list[tuple[Path, Checked]]) -> None:
    """Some whose reason is known; a wrong turn of the order of checks would show here."""
    reasons = {path.name.rpartition("__")[2]: checked.verdict.reason for path, checked in corpus}
    assert reasons["truncated_jpeg.jpg"] is Reason.TRUNCATED_IMAGE
    assert reasons["truncated_image.png"] is Reason.TRUNCATED_IMAGE
    assert reasons["broken_data_stream.png"] is Reason.DAMAGED_IMAGE
    assert reasons["hopper.psd"] is Reason.FORMAT_NOT_ALLOWED
    assert reasons["pil123rgba.png"] is None
    reasons_used = Counter(reasons.values())
    assert not {Reason.DECODER_DIED, Reason.DECODE_CPU_LIMIT, Reason.DECODE_MEMORY_LIMIT} & reasons_used.keys()


def test_what_is_stored_is_clean(corpus: list[tuple[Path, Checked]]) -> None:
    """8-bit RGB or grey, of the size in the row, one frame, no metadata; in a format that every trainer reads."""
    warnings.simplefilter("error")
    checks = 0
    for path, checked in corpus:
        if checked.stored is None or len(checked.stored) > 500_000:
            continue
        image = opened(checked.stored)
        assert image.size == (checked.width, checked.height), path.name
        assert (image.format or "").lower() == {"jpg": "jpeg"}.get(checked.stored_format or "", checked.stored_format)
        assert image.mode in ("L", "RGB"), path.name
        assert getattr(image, "n_frames", 1) == 1, path.name
        assert not image.getexif(), path.name
        assert not {"comment", "xmp", "exif", "icc_profile", "photoshop"} & image.info.keys(), path.name
        checks += 1
    assert checks > 800


@pytest.mark.parametrize("scene", ["Landscape", "Portrait"])
def test_orientation_samples_are_upright(corpus: list[tuple[Path, Checked]], scene: str) -> None:
    checked = {path.name: c for path, c in corpus if path.parent.name == "exif-orientation"}
    assert len(checked) == 18
    truth = checked[f"{scene}_1.jpg"]
    assert truth.stored is not None
    truth_pixels = np.asarray(opened(truth.stored).resize((60, 60)), int)
    for orientation in range(9):
        found = checked[f"{scene}_{orientation}.jpg"]
        assert found.stored is not None
        assert (found.width, found.height) == (truth.width, truth.height)
        assert found.stored_as_is is (orientation <= 1)
        assert np.abs(np.asarray(opened(found.stored).resize((60, 60)), int) - truth_pixels).mean() < 4
        assert truth.phash is not None
        assert found.phash is not None
        assert (found.phash ^ truth.phash).bit_count() <= 4
