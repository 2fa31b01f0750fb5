import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.errors import ConfigError
from curation.names import make_uid
from curation.pack.layout import Layout, cut
from curation.row import Reason
from tests.pack.make_bank import Packed, Picture, laid_out, pack, picture

EMPTY = Picture(b"no pixels are read here", "jpg", (640, 480))


def rows(n: int, **columns: Any) -> list[Picture]:
    return [Picture(EMPTY.data, "jpg", (640, 480), dict(columns)) for _ in range(n)]


def kept(packed: Packed) -> list[dict[str, Any]]:
    return [row for row in packed.rows("layout") if row["outcome"] == "kept"]


def test_every_row_has_its_place_or_its_reason(tmp_path: Path) -> None:
    pictures = [
        Picture(EMPTY.data, "jpg", (640, 480)),
        Picture(EMPTY.data, "jpg", (640, 480), {"alt_text": None}),
        Picture(EMPTY.data, "jpg", (640, 480), {"alt_text": " \n\t"}),
        Picture(EMPTY.data, "jpg", (200, 300)),
        Picture(EMPTY.data, "jpg", (200, 300), {"alt_text": ""}),
        Picture(EMPTY.data, "jpg", (1000, 1000)),
    ]
    packed = laid_out(tmp_path, pictures)
    found = {row["uid"]: row for row in packed.rows("layout")}
    said = [(r := found[make_uid("default", str(i))])["outcome"] + f" {r['reason']} {r['bucket']}" for i in range(6)]
    assert said == [
        "kept None 288x224",
        "rejected no_caption 288x224",
        "rejected no_caption 288x224",
        "rejected smaller_than_bucket 208x304",
        "rejected no_caption 208x304",
        "kept None 256x256",
    ]
    small = found[make_uid("default", "3")]
    assert small["detail"] == "200x300 for 208x304"
    assert small["shard"] is None
    assert found[make_uid("default", "0")]["shard"] == "00000"
    counts = packed.layout.manifest().counts  # type: ignore[union-attr]
    assert (counts.rows, counts.kept, counts.rejected, counts.failed) == (6, 2, 4, 0)
    assert counts.reasons == {Reason.NO_CAPTION: 3, Reason.SMALLER_THAN_BUCKET: 1}


def test_order_is_a_keyed_hash_of_the_uid(tmp_path: Path) -> None:
    packed = laid_out(tmp_path, rows(50), seed=7, shard_samples=8)
    uids = [row["uid"] for row in kept(packed)]
    assert uids == sorted(uids, key=lambda uid: hashlib.md5(f"7:{uid}".encode()).digest())
    other = laid_out(tmp_path, rows(50), seed=8, shard_samples=8)
    assert [row["uid"] for row in kept(other)] != uids
    assert other.layout.fingerprint != packed.layout.fingerprint


def test_one_fragment_is_one_shard(tmp_path: Path) -> None:
    packed = laid_out(tmp_path, [*rows(50), *rows(3, alt_text="")], shard_samples=8)
    manifest = packed.layout.manifest()
    assert manifest is not None
    assert [f.counts.kept for f in manifest.fragments] == [8] * 6 + [2, 0]
    assert manifest.fragments[-1].counts.rejected == 3
    for index, fragment in enumerate(manifest.fragments[:-1]):
        table = packed.layout.folder.read_table(fragment.name)
        assert table["shard"].unique().to_pylist() == [f"{index:05d}"]
    assert [(p.index, p.rows) for p in packed.pack.partitions()] == [*((i, 8) for i in range(6)), (6, 2)]


def test_fragments_of_the_stage_before_do_not_matter(tmp_path: Path) -> None:
    one, other = laid_out(tmp_path / "a", rows(40), shard_samples=9), None
    pictures = rows(40)
    from curation.config import PackSettings
    from curation.storage import Folder
    from tests.pack.make_bank import Bank

    bank = Bank(Folder(tmp_path / "b"), pictures, per_fragment=13)
    bank.run()
    other = Layout(Folder(tmp_path / "b"), bank, PackSettings(resolution=256, shard_samples=9), 0, bank.folder)
    other.run()
    first = [(r["uid"], r["shard"]) for r in kept(one)]
    second = [
        (r["uid"], r["shard"])
        for f in other.manifest().fragments  # type: ignore[union-attr]
        for r in other.folder.read_table(f.name).to_pylist()
    ]
    assert first == second


def test_running_again_gives_the_same_manifest(tmp_path: Path) -> None:
    first, second = (laid_out(tmp_path / name, rows(30), shard_samples=9) for name in "ab")
    texts = [packed.layout.folder.read_bytes("manifest.json") for packed in (first, second)]
    assert texts[0].replace(first.bank.fingerprint.encode(), b"") == texts[1].replace(
        second.bank.fingerprint.encode(), b""
    )


def test_user_columns_come_through_unchanged(tmp_path: Path) -> None:
    fields = {
        "half": (pa.float16(), np.float16(1.5)),
        "halves": (pa.list_(pa.float16(), 2), [np.float16(1.5), np.float16(2)]),
        "big": (pa.uint64(), 2**64 - 1),
        "tags": (pa.list_(pa.string()), ["a", "b"]),
        "when": (pa.timestamp("us", "UTC"), None),
        "pair": (pa.struct([("a", pa.int8())]), {"a": 1}),
        "Größe": (pa.float32(), 0.1),
    }
    extra = [pa.field(name, kind) for name, (kind, _) in fields.items()]
    packed = laid_out(tmp_path, rows(3, **{name: value for name, (_, value) in fields.items()}), extra)
    manifest = packed.layout.manifest()
    assert manifest is not None
    table = packed.layout.folder.read_table(manifest.fragments[0].name)
    for name, (kind, value) in fields.items():
        assert table.schema.field(name).type == kind
        assert table[name].to_pylist() == pa.array([value] * 3, kind).to_pylist()


def test_shards_by_bytes_come_close(tmp_path: Path) -> None:
    dice = np.random.default_rng(5)
    kinds = ["jpg"] * 8 + ["png", "webp"]
    pictures = [
        picture(i, (int(w), int(h)), kinds[i % 10], alt_text="word " * int(n))
        for i, (w, h, n) in enumerate(dice.integers((200, 200, 1), (420, 420, 200), (240, 3)))
    ]
    aim = 1_000_000  # the least that the setting takes
    packed = pack(tmp_path, pictures, shard_bytes=aim, resolution=128)
    sizes = [shard["bytes"] for shard in packed.corpus["shards"]]
    assert len(sizes) == 3
    # 15 % either way: the estimate comes from 64 samples, and these images differ in their noise alone
    assert all(0.85 * aim < size < 1.15 * aim for size in sizes[:-1]), sizes
    assert sizes[-1] < 1.15 * aim


def test_damaged_pixels_do_not_stop_the_calibration(tmp_path: Path) -> None:
    packed = laid_out(tmp_path, [*rows(20), picture(1, (300, 300))], shard_bytes=1_000_000)
    assert len(kept(packed)) == 21


def test_scratch_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    laid_out(tmp_path / "out", rows(20))
    assert list(scratch.iterdir()) == []
    with pytest.raises(ConfigError):
        laid_out(tmp_path / "out", rows(20), primary="dense")
    assert list(scratch.iterdir()) == []


def test_a_primary_caption_that_no_stage_writes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stages.pack.primary: no stage writes captions of kind 'dense'.*alt"):
        laid_out(tmp_path, rows(3), primary="dense")


def test_primary_caption_of_another_kind(tmp_path: Path) -> None:
    pictures = [*rows(2, caption_dense="long text"), *rows(1, caption_dense=None)]
    packed = laid_out(tmp_path, pictures, [pa.field("caption_dense", pa.string())], primary="dense")
    assert [row["outcome"] for row in packed.rows("layout")] == ["kept", "kept", "rejected"]


def test_quality_moves_nothing_where_shards_are_cut_by_samples(tmp_path: Path) -> None:
    first, second = (laid_out(tmp_path, rows(3), quality=quality) for quality in (80, 90))
    assert first.layout.fingerprint == second.layout.fingerprint
    assert first.pack.fingerprint != second.pack.fingerprint


def test_cut() -> None:
    tables = [pa.table({"n": list(range(start, start + 5))}) for start in (0, 5, 10)]

    def pieces(weights: dict[int, int], limit: int) -> list[list[int]]:
        weigh = lambda table: [weights.get(n, 1) for n in table["n"].to_pylist()]  # noqa: E731
        return [table["n"].to_pylist() for table in cut(tables, weigh, limit)]

    assert pieces({}, 100) == [list(range(15))]
    assert pieces({}, 5) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    assert pieces({}, 7) == [list(range(7)), list(range(7, 14)), [14]]
    assert pieces({0: 50, 6: 50}, 10) == [[0], [1, 2, 3, 4, 5], [6], list(range(7, 15))]
    assert list(cut([], lambda table: [], 3)) == []
