"""Tars that were packed elsewhere: indexed, streamed, checked; nothing in them runs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.errors import ConfigError, CorruptionError
from curation.fsck import fsck
from curation.storage import Folder
from curation.stream.foreign import index_tars
from curation.stream.loader import CorpusLoader
from tests.image.test_color import ADOBE_RGB
from tests.pack.make_bank import encoded, pixels
from tests.stream.conftest import Make, keys
from tests.stream.foreign import add, foreign_corpus, turned


def test_they_stream_like_our_own(stream: Make, tmp_path: Path) -> None:
    folder = foreign_corpus(tmp_path)
    one = stream(corpora=[{"path": str(folder)}], batch=4, tails="merge")
    captions = {s.key: c for batch in one for s, c in zip(batch.samples, batch.captions, strict=True)}
    assert captions == {f"sample-{i:03d}": f"caption {i}" for i in range(20)}
    for batch in CorpusLoader(stream(corpora=[{"path": str(folder)}], batch=4, tails="merge")):
        height, width = batch["pixels"].shape[2:]
        assert width > height
        assert {h for h, _ in batch["original_sizes"].tolist()} == {100}


def test_nothing_in_them_runs(stream: Make, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    folder = foreign_corpus(tmp_path / "tars", trap=tmp_path / "sprung")
    for batch in stream(corpora=[{"path": str(folder)}], batch=4):
        assert all(set(s.members) == {"jpg", "txt", "pkl", "pyd", "pth", "npy"} for s in batch.samples)
    for _ in CorpusLoader(stream(corpora=[{"path": str(folder)}], batch=4), workers=1):
        assert not (tmp_path / "sprung").exists()


def test_a_pipe_is_no_address(stream: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        stream(corpora=[{"path": f"pipe:touch {tmp_path}/sprung"}])
    assert not (tmp_path / "sprung").exists()


def test_tars_of_nothing_are_told_so(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    with pytest.raises(ConfigError, match="they hold no files"):
        index_tars(str(tmp_path), 64)


@pytest.mark.parametrize(
    ("image", "extension", "colour"),
    [
        (Image.fromarray(np.full((80, 80), 257 * 100, np.uint16)), "PNG", (100, 100, 100)),
        (Image.new("RGBA", (80, 80), (0, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("LA", (80, 80), (0, 128)), "PNG", (127, 127, 127)),
        (Image.new("L", (80, 80), 9), "PNG", (9, 9, 9)),
        (Image.new("CMYK", (80, 80), (0, 255, 255, 0)), "JPEG", (254, 0, 0)),
        (Image.new("RGB", (80, 80), (100, 200, 100)), "JPEG", (0, 201, 95)),
    ],
    ids=["16 bits", "transparent", "half", "grey", "inks", "Adobe RGB"],
)
def test_pictures_of_every_kind_are_srgb_on_white(
    stream: Make, tmp_path: Path, image: Image.Image, extension: str, colour: tuple[int, int, int]
) -> None:
    """A green of a wider gamut is a stronger one than its numbers say."""
    file = io.BytesIO()
    image.save(file, extension, quality=100, icc_profile=ADOBE_RGB if image.mode == "RGB" else None)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for n in range(4):
            add(tar, f"{n}.{extension.lower()}", file.getvalue())
            add(tar, f"{n}.txt", b"words")
    index_tars(str(tmp_path), 64)
    (batch,) = CorpusLoader(stream(corpora=[{"path": str(tmp_path)}], batch=4, tails="merge"))
    found = batch["pixels"][0].float().mean((1, 2)).tolist()
    assert found == pytest.approx(colour, abs=2)


def test_what_is_no_sample_is_left_out_by_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "no-text.jpg", encoded(pixels(0, (90, 90))))
        add(tar, "no-image.txt", b"words")
        add(tar, "html.jpg", b"<html>" * 100)
        add(tar, "html.txt", b"words")
        add(tar, "deep/er/good.jpg", encoded(pixels(1, (90, 90))))
        add(tar, "deep/er/good.txt", b"words")
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:700])
    corpus = index_tars(str(tmp_path), 64)
    assert corpus["samples"] == 1
    left = {(item["shard"], item["key"]): item["why"] for item in corpus["left_out"]}
    assert left["a.tar", "no-text"] == "it has no text"
    assert left["a.tar", "no-image"] == "it has no image"
    assert left["a.tar", "html"] == "its image is not one that can be read"
    assert "cut at byte 700" in left["b.tar", ""]


def test_a_turned_picture_comes_upright(stream: Make, tmp_path: Path) -> None:
    image = Image.fromarray(pixels(3, (120, 80)))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(2):
            add(tar, f"{i}.jpg", turned(image))
            add(tar, f"{i}.txt", b"words")
    index_tars(str(tmp_path), 64)
    (batch,) = CorpusLoader(stream(corpora=[{"path": str(tmp_path)}], batch=2))
    assert batch["original_sizes"].tolist() == [[120, 80]] * 2
    height, width = batch["pixels"].shape[2:]
    wanted = image.rotate(-90, expand=True).resize((width, height), Image.Resampling.BOX)
    found = batch["pixels"][0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - np.asarray(wanted)).mean() < 20


def test_indexing_twice_or_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tars in"):
        index_tars(str(tmp_path))
    foreign_corpus(tmp_path)
    with pytest.raises(ConfigError, match="already"):
        index_tars(str(tmp_path))


def test_fsck_deep_names_a_flipped_byte_that_the_size_does_not_tell(tmp_path: Path) -> None:
    folder = foreign_corpus(tmp_path)
    assert fsck(Folder(folder), deep=True) == []
    data = bytearray((folder / "part-1.tar").read_bytes())
    data[700] ^= 1
    (folder / "part-1.tar").write_bytes(data)
    assert fsck(Folder(folder)) == []
    (finding,) = fsck(Folder(folder), deep=True)
    assert finding.wrong
    assert finding.path.endswith("part-1.tar")


def test_a_kind_of_caption_that_they_have_not_is_refused(stream: Make, tmp_path: Path) -> None:
    folder = foreign_corpus(tmp_path)
    with pytest.raises(ConfigError, match=r"captions\.dense"):
        stream(corpora=[{"path": str(folder)}], captions={"dense": 1})
    assert len(keys(stream(corpora=[{"path": str(folder)}], batch=4, tails="merge"))) == 5


def test_an_image_that_cannot_be_decoded_stops_or_is_skipped(stream: Make, tmp_path: Path) -> None:
    folder = foreign_corpus(tmp_path, broken=3)
    strict = CorpusLoader(stream(corpora=[{"path": str(folder)}], batch=4, tails="merge"))
    with pytest.raises(CorruptionError, match=r"sample-00\d cannot be decoded"):
        list(strict)
    one = CorpusLoader(stream(corpora=[{"path": str(folder)}], batch=4, damage="skip", tails="merge"))
    said = [message for batch in one for message in batch["damaged"]]
    assert len(said) == 3
    assert all("cannot be decoded" in message for message in said)
