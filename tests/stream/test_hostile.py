"""A corpus that somebody else has made may end in a clear error, and never in a file, memory or words of its own."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import ConfigError, CorruptionError
from curation.fsck import fsck
from curation.storage import Folder
from curation.stream import index
from curation.stream.corpus import open_corpus
from curation.stream.decode import Decoder
from curation.stream.foreign import index_tars
from curation.stream.sample import Sample, take_apart
from tests.pack.make_bank import encoded, pixels
from tests.stream.conftest import Make
from tests.stream.foreign import add

Facts = dict[str, Any]


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


def rewrite(folder: Path, change: Callable[[Facts], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest["extra"]["corpus"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def reindex(folder: Path, column: str, values: pa.Array) -> None:
    """Put `values` at the start of a column of the index."""
    table = pq.read_table(folder / "index.parquet")
    rest = table[column].slice(len(values)).cast(values.type)
    changed = pa.chunked_array([values, *rest.chunks])
    table = table.set_column(table.schema.get_field_index(column), column, changed)
    pq.write_table(table, folder / "index.parquet")
    rewrite(folder, lambda c: c["index"].update(bytes=(folder / "index.parquet").stat().st_size))


def test_an_index_that_tells_more_samples_than_it_has_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there would be whatever memory held before."""
    monkeypatch.setattr(index, "opened", lambda folder, name: Boasting(folder.path(name)))
    with pytest.raises(CorruptionError, match="its groups are not its rows"):
        open_corpus(str(copy))
    rewrite(copy, lambda c: [shard.update(bytes=512) for shard in c["shards"]])
    monkeypatch.undo()
    with pytest.raises(CorruptionError, match="more samples than they have room"):
        open_corpus(str(copy))


class Boasting:
    """An index whose footer says twice as many rows as its groups."""

    def __init__(self, path: str) -> None:
        self._file = pq.ParquetFile(path)

    def __enter__(self) -> SimpleNamespace:
        true = self._file.metadata
        told = SimpleNamespace(num_rows=2 * true.num_rows, num_row_groups=true.num_row_groups, row_group=true.row_group)
        return SimpleNamespace(metadata=told)

    def __exit__(self, *error: object) -> None:
        self._file.close()


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "shards/../../x.tar", "", 7])
def test_a_shard_outside_of_the_folder_is_refused(copy: Path, name: object) -> None:
    rewrite(copy, lambda c: c["shards"][0].update(name=name))
    with pytest.raises(ConfigError, match="not the manifest of a packed corpus"):
        open_corpus(str(copy))
    (finding,) = fsck(Folder(copy), deep=True)
    assert finding.wrong


def test_the_index_lies_in_the_folder_too(copy: Path) -> None:
    (copy / "index.parquet").rename(copy.parent / "index.parquet")
    rewrite(copy, lambda c: c["index"].update(name="../index.parquet"))
    with pytest.raises(ConfigError, match="no path below"):
        open_corpus(str(copy))


@pytest.mark.parametrize(
    "change",
    [{"sha256": "../../../home/someone/x"}, {"sha256": None}, {"bytes": -1}, {"samples": 1e999}, {"bytes": "many"}],
)
def test_what_a_manifest_says_of_a_shard_is_checked(copy: Path, change: Facts) -> None:
    rewrite(copy, lambda c: c["shards"][0].update(change))
    with pytest.raises(ConfigError, match="not the manifest of a packed corpus"):
        open_corpus(str(copy))


def test_a_deep_manifest_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(ConfigError, match="not the manifest of a packed corpus"):
        open_corpus(str(copy))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("offset", pa.array([-512])),
        ("length", pa.array([2**31 - 1])),
        ("length", pa.array([2**32 + 512])),
        ("length", pa.array([-512])),
        ("offset", pa.array([2**62])),
        ("offset", pa.array([None], pa.int64())),
        ("crc32c", pa.array([2**40])),
        ("shard", pa.array(["../../etc/passwd"])),
        ("shard", pa.array([None], pa.string())),
        ("bucket", pa.array(["1000000x1000000"])),
        ("bucket", pa.array(["0x64"])),
        ("bucket", pa.array(["wide"])),
    ],
)
def test_an_index_of_other_places_is_refused(copy: Path, column: str, value: pa.Array) -> None:
    reindex(copy, column, value)
    with pytest.raises(CorruptionError, match="no index of these shards"):
        open_corpus(str(copy))
    assert [f for f in fsck(Folder(copy)) if f.wrong]


def test_an_index_without_a_column_is_refused(copy: Path) -> None:
    pq.write_table(pq.read_table(copy / "index.parquet").drop_columns("crc32c"), copy / "index.parquet")
    rewrite(copy, lambda c: c["index"].update(bytes=(copy / "index.parquet").stat().st_size))
    with pytest.raises(CorruptionError, match=r"index\.parquet"):
        open_corpus(str(copy))


def sample(**members: bytes) -> Sample:
    return Sample("k", {extension: memoryview(data) for extension, data in members.items()}, 0)


@pytest.mark.parametrize(
    "text",
    [
        b'{"captions": [{"kind": "dense", "text": null}]}',
        b'{"captions": [{"kind": "dense", "text": ["words"]}]}',
        b'{"captions": [{"kind": "dense", "text": "half \\ud800 a character"}]}',
        b'{"captions": [{"kind": "dense"}]}',
        b'{"captions": [7]}',
        b'{"captions": {"dense": "words"}}',
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b'{"number": ' + b"9" * 10_000 + b"}",
        b"[]",
        b"\xff",
    ],
)
def test_a_caption_is_a_text_or_the_sample_is_damaged(text: bytes) -> None:
    with pytest.raises(CorruptionError, match="sample k"):
        sample(json=text).caption("dense")


def test_numbers_of_a_hostile_json_say_nothing(stream: Make) -> None:
    image = encoded(pixels(1, (64, 64)))
    facts = b'{"original_height": 1e999, "original_width": -5, "crop_top": "x", "crop_left": %d}' % 2**70
    found = Decoder()(sample(jpg=image, json=facts), (64, 64))
    assert found.original_size == (64, 64)
    assert found.crop_top_left == (0, 0)


def test_a_line_of_pixels_is_not_enlarged_to_gigabytes() -> None:
    image = encoded(pixels(1, (60_000, 1)))
    with pytest.raises(CorruptionError, match=r"sample k cannot be decoded.*over the limit"):
        Decoder()(sample(jpg=image), (1024, 1024))


def test_a_picture_that_only_its_exif_data_spoil_is_damaged() -> None:
    """Turned upright, its EXIF data are written anew, and a width that is a text cannot be."""
    entries = struct.pack("<HHHIIHHII", 2, 0x0100, 2, 6, 38, 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries + bytes(4) + b"broad\0"
    image = encoded(pixels(1, (64, 48)))
    spoilt = image[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + image[2:]
    with pytest.raises(CorruptionError):
        Decoder()(sample(jpg=spoilt), (32, 32))


def test_an_image_whose_header_promises_more_than_fits_is_not_decoded() -> None:
    image = encoded(pixels(1, (64, 64)), "png")
    header = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(CorruptionError, match="sample k cannot be decoded"):
        Decoder()(sample(png=image[:16] + header + image[24:]), (64, 64))


def records(*members: tuple[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> memoryview:
    """Tar records without the end's mark."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, data in members:
            add(tar, name, data)
        end = tar.offset
    return memoryview(out.getvalue())[:end]


def test_a_long_folder_is_part_of_the_key_in_every_kind_of_tar() -> None:
    folder = "f" * 98  # USTAR splits such a path: the name's field holds "a.jpg" alone
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        found = take_apart(records((f"{folder}/a.jpg", b"x"), (f"{folder}/a.txt", b"y"), kind=kind), 0)
        assert found.key == f"{folder}/a"
        assert {e: bytes(m) for e, m in found.members.items()} == {"jpg": b"x", "txt": b"y"}


@pytest.mark.parametrize("name", [".jpg", "._a.jpg", "a", "b.jpg"])
def test_members_that_are_not_the_samples_are_none_of_it(name: str) -> None:
    found = records((name, b"strange"), ("a.jpg", b"x"), ("a.txt", b"y"))
    if name == "b.jpg":
        with pytest.raises(CorruptionError, match="hold 2 samples"):
            take_apart(found, 0)
    else:
        assert {e: bytes(m) for e, m in take_apart(found, 0).members.items()} == {"jpg": b"x", "txt": b"y"}


def test_headers_that_lie_are_damage() -> None:
    whole = bytes(records(("a.jpg", b"x" * 600), ("a.txt", b"y"), ("a.json", b"{}")))
    second = 512 + 1024
    for size in (b"99999999999\0", b"00000000089\0", b"77777777777\0", b"-0000000001\0", b"\x80" + b"\xff" * 11):
        changed = whole[: second + 124] + size + whole[second + 136 :]
        with pytest.raises(CorruptionError, match="no whole sample: damaged header"):
            take_apart(memoryview(changed), 0)
    with pytest.raises(CorruptionError, match="hold 2 samples"):
        take_apart(records(("a.jpg", b"x"), ("a.JPG", b"y")), 0)


def test_an_image_that_was_indexed_is_found_again(stream: Make, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(2):
            add(tar, f"{i}.thumb.jpg", encoded(pixels(i, (90, 90))))
            add(tar, f"{i}.txt", b"words")
    index_tars(str(tmp_path), 64)
    (batch,) = stream(corpora=[{"path": str(tmp_path)}], batch=2)
    assert all(bytes(s.image[:3]) == b"\xff\xd8\xff" for s in batch.samples)


def test_keys_that_collide_are_told_apart_by_number(stream: Make, tmp_path: Path) -> None:
    for part in range(2):
        with tarfile.open(tmp_path / f"{part}.tar", "w") as tar:
            for i in range(4):
                add(tar, f"{i}.jpg", encoded(pixels(i, (90, 90))))
                add(tar, f"{i}.txt", f"{part}/{i}".encode())
    index_tars(str(tmp_path), 64)
    found = [c for batch in stream(corpora=[{"path": str(tmp_path)}], batch=4) for c in batch.captions]
    assert sorted(found) == sorted(f"{part}/{i}" for part in range(2) for i in range(4))


def test_keys_are_read_from_several_row_groups(copy: Path) -> None:
    table = pq.read_table(copy / "index.parquet")
    wanted = table["uid"].to_pylist()
    pq.write_table(table, copy / "index.parquet", row_group_size=7)
    rewrite(copy, lambda c: c["index"].update(bytes=(copy / "index.parquet").stat().st_size))
    rows = np.array([109, 0, 50, 6, 7, 50])
    assert open_corpus(str(copy)).keys(rows) == [wanted[row] for row in rows]
