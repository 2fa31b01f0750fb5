"""WebDataset tars as a source: each image is where the row says it is."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.errors import ConfigError, SourceError
from curation.names import make_uid
from tests.sources.built import build, by_url, faults, reasons


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as writer:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, image: bytes | None = None, text: str | None = None, **record: Any) -> list[tuple[str, bytes]]:
    members = [(f"{key}.jpg", image if image is not None else f"image {key}".encode())]
    if text is not None:
        members.append((f"{key}.txt", text.encode()))
    return [*members, (f"{key}.json", json.dumps(record).encode())]


def build_tars(tmp_path: Path, *tars: Iterable[tuple[str, bytes]], **settings: Any) -> pa.Table:
    for i, members in enumerate(tars):
        write_tar(tmp_path / f"set/{i:05d}.tar", members)
    return build(tmp_path / "out", {"kind": "webdataset", "path": str(tmp_path / "set"), **settings})


def held(row: dict[str, Any]) -> bytes:
    with open(row["held_path"], "rb") as file:
        file.seek(row["held_offset"])
        return file.read(row["held_length"])


def test_samples_are_rows(tmp_path: Path) -> None:
    members = [
        *sample("0001", text="a text", url="http://a/1", caption="a caption", score=0.5),
        *sample("0002", url="http://a/2", caption="a caption", score=1),
        *sample("d/0003", caption=None),
        ("0004.png", b"an image alone"),
    ]
    columns = {"keep": ["score", "__key__"], "license": "lic"}
    with pytest.raises(ConfigError, match=r"source\.columns\.license: no column 'lic'; The columns are: "):
        build_tars(tmp_path, members, columns=columns)
    del columns["license"]
    table = build_tars(tmp_path, members, columns=columns)
    rows = {row["__key__"]: row for row in table.to_pylist()}
    assert reasons(table) == {None: 4}
    assert {k: r["url"] for k, r in rows.items()} == {
        "0001": "http://a/1",
        "0002": "http://a/2",
        "d/0003": None,
        "0004": None,
    }
    assert [rows[k]["alt_text"] for k in rows if k < "0003"] != []
    assert {k: r["alt_text"] for k, r in rows.items() if r["alt_text"]} == {"0001": "a text", "0002": "a caption"}
    assert {k: r["score"] for k, r in rows.items() if r["score"]} == {"0001": 0.5, "0002": 1.0}
    names = {"0001": "http://a/1", "0002": "http://a/2", "d/0003": "00000/d/0003", "0004": "00000/0004"}
    assert {k: r["uid"] for k, r in rows.items()} == {k: make_uid("default", name) for k, name in names.items()}
    assert {k: held(r) for k, r in rows.items()} == {
        "0001": b"image 0001",
        "0002": b"image 0002",
        "d/0003": b"image d/0003",
        "0004": b"an image alone",
    }
    assert table["held_path"].unique().to_pylist() == [str(tmp_path / "set/00000.tar")]


def test_shards_are_told_apart(tmp_path: Path) -> None:
    table = build_tars(tmp_path, sample("0"), sample("0"), sample("0", url="http://a/1"), sample("0", url="http://a/1"))
    assert reasons(table) == {None: 3, "duplicate_url": 1}
    assert len(set(table["uid"].to_pylist())) == 3


def test_the_caption_column_may_be_named(tmp_path: Path) -> None:
    members = sample("0", text="txt", url="http://a/1", long="long") + sample("1", text="txt", url="http://a/2")
    rows = by_url(build_tars(tmp_path, members, columns={"alt_text": "long"}))
    assert {u: r["alt_text"] for u, r in rows.items()} == {"http://a/1": "long", "http://a/2": "txt"}


def test_where_and_limit(tmp_path: Path) -> None:
    members = [m for i in range(10) for m in sample(f"{i}", url=f"http://a/{i}", n=i)]
    assert sorted(by_url(build_tars(tmp_path, members, where="n > 4", limit=2))) == ["http://a/5", "http://a/6"]
    assert build_tars(tmp_path, members, limit=3).num_rows == 3
    assert build_tars(tmp_path, members, where="__key__ = '7'").num_rows == 1


def test_samples_that_cannot_be_used(tmp_path: Path) -> None:
    members = [
        *sample("0", url="http://a/0"),
        ("1.jpg", b"x"),
        ("1.json", b"{broken"),
        ("2.jpg", b"x"),
        ("2.json", b"[1, 2]"),
        ("3.jpg", b"x"),
        ("3.json", b'{"a": "' + b"x" * 2_000_000 + b'"}'),
        ("4.txt", b"a text alone"),
        ("5.json", b'{"url": "http://a/5"}'),
        ("6.json", b'{"url": "no url"}'),
        ("7.json", b"[" * 100_000),
        ("8.jpg", b"x"),
        ("8.json", b'{"url": 17}'),
        ("9.jpg", b"x"),
        ("9.json", b'{"url": "http://a/\\ud800"}'),
    ]
    table = build_tars(tmp_path, members)
    assert reasons(table) == {None: 4, "source_image_unreadable": 6}
    assert sorted(row["url"] or "" for row in table.to_pylist() if row["outcome"] == "kept")[:3] == [
        "17",
        "http://a/0",
        "http://a/5",
    ]
    assert by_url(table)["http://a/5"]["held_path"] is None  # no image, but an address: fetch gets it
    assert [detail.split(":")[1] for detail in faults(table)] == ["1", "2", "3", "4", "6", "7"]
    assert {r["transient"] for r in table.to_pylist() if r["outcome"] == "failed"} == {False}
    assert "00000.tar:2: its JSON is no object" in faults(table)


def test_damaged_tars_lose_no_sound_sample(tmp_path: Path) -> None:
    shards = [[m for i in range(8) for m in sample(f"{s}{i}", b"x" * 3000, url=f"http://a/{s}{i}")] for s in range(4)]
    for i, members in enumerate(shards):
        write_tar(tmp_path / f"set/{i:05d}.tar", members)
    size = 512 + 3072 + 512 + 512  # of a sample
    cut = tmp_path / "set/00001.tar"
    cut.write_bytes(cut.read_bytes()[: 5 * size + 1000])
    between = tmp_path / "set/00002.tar"
    between.write_bytes(between.read_bytes()[: 3 * size])
    flipped = bytearray((tmp_path / "set/00003.tar").read_bytes())
    flipped[4 * size + 10] ^= 1
    (tmp_path / "set/00003.tar").write_bytes(flipped)
    table = build(tmp_path / "out", {"kind": "webdataset", "path": str(tmp_path / "set")})
    kept = by_url(table)
    images = [url for url, row in kept.items() if row["held_path"]]
    assert sorted(images) == sorted(
        f"http://a/{s}{i}" for s, n in enumerate([8, 5, 3, 8]) for i in range(n) if (s, i) != (3, 4)
    )
    assert all(held(kept[url]) == b"x" * 3000 for url in images)
    assert kept["http://a/34"]["held_path"] is None  # its JSON came through, with its address
    assert faults(table) == [
        f"00001.tar: cut at byte {5 * size + 1000}, inside '15.jpg'",
        f"00002.tar: ends at byte {3 * size} without the mark that ends a tar: it may be cut",
        f"00003.tar: damaged header at byte {4 * size}",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b"x" * 2000, mtime=0), "is compressed: unpack it"),
        (b"<html>" * 100, "is no tar"),
    ],
)
def test_files_that_are_no_plain_tar(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        build(tmp_path / "out", {"kind": "webdataset", "path": str(path)})
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_an_empty_tar_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no rows"):
        build_tars(tmp_path, [])


def test_images_on_an_object_store(tmp_path: Path) -> None:
    import fsspec

    path = write_tar(tmp_path / "x.tar", sample("0", url="http://a/0"))
    with fsspec.open("memory://held/x.tar", "wb") as file:
        file.write(path.read_bytes())
    table = build(tmp_path / "out", {"kind": "webdataset", "path": "memory://held/*.tar"})
    (row,) = table.to_pylist()
    with fsspec.open(row["held_path"], "rb") as file:
        file.seek(row["held_offset"])
        assert file.read(row["held_length"]) == b"image 0"
