"""The pack stage: what its shards, index and manifest hold."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crc32c import crc32c
from PIL import Image

from curation.names import make_uid
from curation.pack.stage import Pack, published
from curation.storage import Folder
from tests.pack.make_bank import Packed, finish, laid_out, pack, picture
from tests.pack.whole_run import PICTURES, SETTINGS, same


def test_shards_and_rows(whole: Packed) -> None:
    assert list(whole.shards()) == [f"{i:05d}.tar" for i in range(5)]
    rows = whole.rows()
    assert [row["outcome"] for row in rows] == ["kept"] * 25
    with tarfile.open(whole.folder / "shards" / "00000.tar") as tar:
        members = tar.getmembers()
    uids = [row["uid"] for row in rows[:6]]
    assert [m.name for m in members] == [f"{uid}.{ending}" for uid in uids for ending in ("jpg", "txt", "json")]
    assert {(m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname, m.type) for m in members} == {
        (0o644, 0, 0, 0, "", "", tarfile.REGTYPE)
    }


def test_index_places_every_member(whole: Packed) -> None:
    index = pq.read_table(whole.folder / "index.parquet").to_pylist()
    shards = whole.shards()
    assert [row["uid"] for row in index] == [row["uid"] for row in whole.rows()]
    for row in index:
        shard = shards[f"{row['shard']}.tar"]
        span = shard[row["offset"] : row["offset"] + row["length"]]
        assert crc32c(span) == row["crc32c"]
        with tarfile.open(fileobj=io.BytesIO(span + b"\0" * 1024)) as tar:
            assert [m.name.split(".")[0] for m in tar.getmembers()] == [row["uid"]] * 3
        parts = {}
        for member in ("image", "txt", "json"):
            start, length = row[f"{member}_offset"], row[f"{member}_length"]
            parts[member] = shard[start : start + length]
            assert crc32c(parts[member]) == row[f"{member}_crc32c"]
        with Image.open(io.BytesIO(parts["image"])) as image:
            assert image.size == (row["width"], row["height"])
        assert f"{row['width']}x{row['height']}" == row["bucket"]
        assert row["captions"] == [{"kind": "alt", "words": 3, "tokens": None}]
        assert json.loads(parts["json"])["uid"] == row["uid"]
        assert parts["txt"].decode().startswith("picture number")
    for number in range(5):  # samples lie side by side from the first byte, in order
        spans = [(r["position"], r["offset"], r["length"]) for r in index if r["shard"] == f"{number:05d}"]
        assert [position for position, _, _ in spans] == list(range(len(spans)))
        ends = [0, *(offset + length for _, offset, length in spans)]
        assert [offset for _, offset, _ in spans] == ends[:-1]
        assert len(shards[f"{number:05d}.tar"]) == ends[-1] + 1024


def test_json_says_what_the_sample_is(whole: Packed) -> None:
    bank = {row["uid"]: row for row in whole.rows("bank")}
    for name in whole.shards():
        with tarfile.open(whole.folder / "shards" / name) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
        for key in [n for n in files if n.endswith(".json")]:
            said, row = json.loads(files[key]), bank[key.split(".")[0]]
            assert files[key].decode() == json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert (said["original_width"], said["original_height"]) == (row["width"], row["height"])
            assert said["source_sha256"] == row["source_sha256"]
            assert said["sha256"] == hashlib.sha256(files[key.replace(".json", ".jpg")]).hexdigest()
            assert (said["url"], said["license"], said["source"]) == (row["url"], "", "default")
            assert said["phash"] == f"{row['phash']:016x}"
            assert said["scores"] == {"sharpness": row["sharpness"]}
            assert said["captions"] == [{"kind": "alt", "model": "", "text": row["alt_text"], "tokens": -1, "words": 3}]


def test_manifest_names_everything(whole: Packed) -> None:
    corpus = whole.corpus
    for shard in corpus["shards"]:
        data = (whole.folder / shard["name"]).read_bytes()
        assert len(data) == shard["bytes"]
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        assert hashlib.md5(data).hexdigest() == shard["md5"]
    assert [shard["samples"] for shard in corpus["shards"]] == [6, 6, 6, 6, 1]
    assert corpus["samples"] == 25 == sum(corpus["buckets"].values())
    assert corpus["bytes"] == sum(len(data) for data in whole.shards().values())
    index = (whole.folder / "index.parquet").read_bytes()
    assert corpus["index"] == {
        "name": "index.parquet",
        "bytes": len(index),
        "sha256": hashlib.sha256(index).hexdigest(),
    }
    assert [(s["stage"], s["rows"], s["kept"], s["reasons"]) for s in corpus["funnel"]] == [
        ("fetch", 29, 25, {"too_small": 4}),
        ("layout", 25, 25, {}),
        ("pack", 25, 25, {}),
    ]


def test_nothing_of_this_machine_is_published(whole: Packed) -> None:
    for name in ("manifest.json", "wids.json", "croissant.json"):
        text = (whole.folder / name).read_text()
        assert str(whole.folder.parent) not in text
        assert "/home/" not in text
    config = {
        "name": "x",
        "output": "/data/out",
        "source": [
            {"path": "/home/a/list.parquet"},
            {"path": "s3://bucket/list/*.parquet"},
            {"path": "https://u:p@h/l?sig=1"},
        ],
        "stages": {
            "score": {"clip": {"model": "/models/clip", "revision": None}, "aesthetic": "~/heads/linear.pth"},
            "caption": {"model": "org/vlm", "endpoint": "http://10.0.0.7:8000/v1", "api_key_env": "OUR_KEY"},
            "pack": {"quality": 95, "run": {"workers": 3}},
        },
    }
    assert published(config) == {
        "name": "x",
        "source": [{"path": "list.parquet"}, {"path": "s3://bucket/list/*.parquet"}, {"path": "https://h/l"}],
        "stages": {
            "score": {"clip": {"model": "clip", "revision": None}, "aesthetic": "linear.pth"},
            "caption": {"model": "org/vlm"},
            "pack": {"quality": 95},
        },
    }
    assert config["output"] == "/data/out"


HOSTILE = [
    'quotes " and \\ and / and </script>',
    "new\nlines\r\n\tand tabs",
    "emoji 🦊👩‍👩‍👧 and ελληνικά and العربية",
    "x" * 10_000,
    "nul \x00 and bell \x07 and \u2028",
    '{"json": [1, null]}',
    " leading and trailing ",
]


def test_captions_come_out_as_they_went_in(tmp_path: Path) -> None:
    pictures = [picture(i, (140, 140), alt_text=text) for i, text in enumerate(HOSTILE)]
    packed = pack(tmp_path, pictures, resolution=128)
    with tarfile.open(packed.folder / "shards" / "00000.tar") as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    for i, text in enumerate(HOSTILE):
        uid = make_uid("default", str(i))
        assert files[f"{uid}.txt"].decode() == text
        said = json.loads(files[f"{uid}.json"])["captions"]
        assert [(c["text"], c["words"]) for c in said] == [(text, len(text.split()))]


@pytest.mark.parametrize("name", ["png", "webp"])
def test_other_formats(tmp_path: Path, name: str) -> None:
    packed = pack(tmp_path, PICTURES[:4], resolution=128, format=name)
    with tarfile.open(packed.folder / "shards" / "00000.tar") as tar:
        names = tar.getnames()
        with Image.open(tar.extractfile(names[0])) as image:  # type: ignore[arg-type]
            assert image.format == name.upper()
    assert [n.split(".")[1] for n in names] == [name, "txt", "json"] * 4
    assert packed.corpus["members"] == [name, "txt", "json"]


@pytest.mark.parametrize(("buckets", "fit"), [("auto", "crop"), ("auto", "pad"), ("none", "crop")])
def test_never_enlarged_unless_asked(tmp_path: Path, buckets: str, fit: str) -> None:
    sizes = [(90, 90), (120, 400), (128, 100), (300, 128), (3000, 20), (500, 500), (127, 129)]
    pictures = [picture(i, size) for i, size in enumerate(sizes)]
    packed = pack(tmp_path, pictures, resolution=128, buckets=buckets, fit=fit)
    said = {}
    for shard in packed.corpus["shards"]:
        with tarfile.open(packed.folder / shard["name"]) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".json"):
                    one = json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
                    said[one["uid"]] = one
    for i, (width, height) in enumerate(sizes):
        one = said.get(make_uid("default", str(i)))
        if one is None:
            assert buckets == "auto"
            continue
        content = one["width"] - one["pad_left"] - one["pad_right"], one["height"] - one["pad_top"] - one["pad_bottom"]
        assert content[0] <= width
        assert content[1] <= height
        if buckets == "none":
            assert max(one["width"], one["height"]) == min(128, max(width, height))
    rejected = [r["reason"] for r in packed.rows("layout") if r["outcome"] == "rejected"]
    assert len(rejected) == {"autocrop": 4, "autopad": 2, "nonecrop": 0}[buckets + fit]
    asked = pack(tmp_path / "asked", pictures, resolution=128, buckets=buckets, fit=fit, upscale=True)
    assert asked.corpus["samples"] == len(sizes)


def test_bank_on_an_object_store(tmp_path: Path, whole: Packed) -> None:
    from curation.config import PackSettings
    from curation.pack.layout import Layout
    from tests.pack.make_bank import CONFIG, Bank

    output = Folder("memory://pack-test")
    bank = Bank(output, PICTURES)
    bank.run()
    settings = PackSettings(**SETTINGS)
    layout = Layout(output, bank, settings, 0, bank.folder)
    layout.run()
    stage = Pack(output, layout, settings, bank.folder, CONFIG)
    finish(stage)
    assert stage.folder.read_bytes("manifest.json") == (whole.folder / "manifest.json").read_bytes()
    for name, data in whole.shards().items():
        assert stage.folder.read_bytes(f"shards/{name}") == data


def test_pool_takes_a_core_a_worker(tmp_path: Path) -> None:
    packed = laid_out(tmp_path, PICTURES[:1], resolution=128)
    assert packed.pack.pool(cpus=6.0, gpus=0).workers == 6
    limited = laid_out(tmp_path, PICTURES[:1], resolution=128, run={"workers": 2})
    assert limited.pack.pool(cpus=6.0, gpus=0).workers == 2
    assert limited.pack.fingerprint == packed.pack.fingerprint


def test_scores_and_user_columns_travel(tmp_path: Path) -> None:
    extra = [
        pa.field("aesthetic", pa.float32()),
        pa.field("pwatermark", pa.float64()),
        pa.field("topic", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("embedding", pa.list_(pa.float32(), 4)),
        pa.field("vector", pa.list_(pa.float16())),
        pa.field("caption_dense", pa.string()),
        pa.field("caption_dense_model", pa.string()),
        pa.field("caption_dense_tokens", pa.int32()),
        pa.field("caption_short", pa.string()),
        pa.field("caption_words", pa.int32()),  # a number, and so no kind of caption
        pa.field("caption_dense_similarity", pa.float32()),
    ]
    full = {
        **{"aesthetic": 5.1, "pwatermark": None, "topic": "sea", "rank": 3, "embedding": [0.0] * 4},
        **{"vector": [np.float16(1)], "caption_dense": "a long one", "caption_dense_model": "m/llava"},
        **{"caption_dense_tokens": 5, "caption_short": None},
        **{"caption_words": 3, "caption_dense_similarity": 0.25},
    }
    packed = pack(tmp_path, [picture(0, (130, 130), **full), picture(1, (130, 130), caption_dense="two words")], extra,
                  resolution=128, primary="dense")  # fmt: skip
    with tarfile.open(packed.folder / "shards" / "00000.tar") as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    first, second = (json.loads(files[make_uid("default", str(i)) + ".json"]) for i in (0, 1))
    similarity = "caption_dense_similarity"
    assert first["scores"] == {"sharpness": 10.5, "aesthetic": 5.1, "pwatermark": -1.0, similarity: 0.25}
    assert second["scores"] == {"sharpness": 11.5, "aesthetic": -1.0, "pwatermark": -1.0, similarity: -1.0}
    assert first["extra"] == {"topic": "sea", "rank": 3, "caption_words": 3}
    assert second["extra"] == {"topic": "", "rank": -1, "caption_words": -1}
    assert first["captions"] == [
        {"kind": "dense", "model": "m/llava", "text": "a long one", "tokens": 5, "words": 3},
        {"kind": "alt", "model": "", "text": "picture number 0", "tokens": -1, "words": 3},
        {"kind": "short", "model": "", "text": "", "tokens": -1, "words": 0},
    ]
    assert files[make_uid("default", "0") + ".txt"] == b"a long one"
    assert packed.corpus["captions"] == ["dense", "alt", "short"]
    index = pq.read_table(packed.folder / "index.parquet").to_pylist()
    counted = {row["uid"]: row["captions"][0] for row in index}
    assert counted[make_uid("default", "0")] == {"kind": "dense", "words": 3, "tokens": 5}
    assert counted[make_uid("default", "1")] == {"kind": "dense", "words": 2, "tokens": None}


def test_a_run_that_is_stopped_stops_within_a_shard(tmp_path: Path, whole: Packed) -> None:
    packed = laid_out(tmp_path, PICTURES, **SETTINGS)
    packed.pack.setup(workers=1)

    async def stopped() -> None:
        working = asyncio.ensure_future(anext(packed.pack.work(packed.pack.unfinished()[0])))
        await asyncio.sleep(0)
        working.cancel()
        await working

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())
    assert list((packed.folder / "shards").iterdir()) == []
    finish(packed.pack)
    same(packed, whole)


def test_temporary_files_do_not_stay(whole: Packed) -> None:
    names = [name for _, _, files in os.walk(whole.folder) for name in files]
    assert not [name for name in names if ".tmp-" in name]
