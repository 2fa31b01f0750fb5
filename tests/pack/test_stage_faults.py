"""Pack under crashes, damage and full disks: the same bytes, or a clear loss of single rows."""

from __future__ import annotations

import asyncio
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.fragments import committed
from curation.names import make_uid
from curation.row import Reason
from curation.storage import Folder
from tests.forks import FORKS, forked
from tests.pack.make_bank import Packed, Picture, finish, laid_out, pack, picture
from tests.pack.whole_run import PICTURES, SETTINGS, same


def test_order_of_partitions_does_not_matter(tmp_path: Path, whole: Packed) -> None:
    packed = laid_out(tmp_path, PICTURES, **SETTINGS)
    finish(packed.pack, order=-1)
    same(packed, whole)


def _some(output: Path, remainder: int) -> None:
    packed = laid_out(output, PICTURES, **SETTINGS)
    packed.pack.setup(workers=2)

    async def work() -> None:
        for partition in packed.pack.unfinished():
            if partition.index % 2 == remainder:
                async for _ in packed.pack.work(partition):
                    pass

    asyncio.run(work())


def test_number_of_workers_does_not_matter(tmp_path: Path, whole: Packed) -> None:
    packed = laid_out(tmp_path, PICTURES, **SETTINGS)
    workers = [FORKS.Process(target=_some, args=(tmp_path, i)) for i in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert packed.pack.unfinished() == []
    packed.pack.settle()
    same(packed, whole)


def _killed(output: Path, step: str, name: str) -> None:
    commit = Folder.commit

    def dying(self: Folder, temp: str, target: str) -> None:
        if step == "before" and target.endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, temp, target)
        if step == "after" and target.endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)

    packed = laid_out(output, PICTURES, **SETTINGS)
    Folder.commit = dying
    finish(packed.pack)


STEPS = [
    ("before", "shards/00002.tar"),
    ("after", "shards/00002.tar"),
    ("after", "-end.parquet"),
    ("after", "index.parquet"),
    ("before", "manifest.json"),
    ("after", "manifest.json"),
]


@pytest.mark.parametrize(("step", "name"), STEPS, ids=[" ".join(step) for step in STEPS])
def test_kill_at_every_step_of_the_commit(tmp_path: Path, whole: Packed, step: str, name: str) -> None:
    code, _, err = forked(_killed, tmp_path, step, name)
    assert code == -signal.SIGKILL, err
    packed = laid_out(tmp_path, PICTURES, **SETTINGS)
    done = {path: path.stat().st_mtime_ns for path in (packed.folder / "shards").glob("0000[01].tar")}
    if name == "shards/00002.tar":
        assert len(packed.pack.unfinished()) == 3
        assert (packed.folder / name).exists() == (step == "after")
    if packed.pack.manifest() is None:
        finish(packed.pack)
    same(packed, whole)
    if name == "shards/00002.tar":
        assert len(done) == 2
        assert done == {path: path.stat().st_mtime_ns for path in done}  # finished shards were not written again


def test_a_damaged_row_fails_alone(tmp_path: Path, whole: Packed) -> None:
    packed = laid_out(tmp_path, PICTURES, **SETTINGS)
    bank = packed.bank.folder.local
    assert bank is not None
    places = {row["uid"]: row for row in packed.rows("bank") if row["outcome"] == "kept"}
    victim = next(row["uid"] for row in packed.rows("layout") if row["shard"] == "00001")
    tar = bank / places[victim]["tar"]
    data = bytearray(tar.read_bytes())
    data[places[victim]["offset"] + 40] ^= 1
    tar.write_bytes(data)
    finish(packed.pack)
    rows = {row["uid"]: row for row in packed.rows()}
    bad = rows.pop(victim)
    assert (bad["outcome"], bad["reason"], bad["transient"]) == ("failed", Reason.BANK_DAMAGED, False)
    assert "are not those that were stored" in bad["detail"]
    assert bad["packed"] is None
    assert {row["outcome"] for row in rows.values()} == {"kept"}
    assert [row["packed"]["position"] for row in rows.values() if row["shard"] == "00001"] == list(range(5))
    before, after = whole.shards(), packed.shards()
    assert [name for name in before if before[name] != after[name]] == ["00001.tar"]
    with tarfile.open(packed.folder / "shards" / "00001.tar") as opened:
        assert len(opened.getnames()) == 15
        assert not any(victim in name for name in opened.getnames())
    assert packed.corpus["samples"] == 24


def test_an_image_that_cannot_be_decoded_fails_alone(tmp_path: Path) -> None:
    packed = pack(tmp_path, [picture(1, (200, 200)), Picture(b"\xff\xd8 no image", "jpg", (200, 200))], resolution=128)
    rows = {row["uid"]: row for row in packed.rows()}
    assert rows[make_uid("default", "0")]["outcome"] == "kept"
    bad = rows[make_uid("default", "1")]
    assert (bad["outcome"], bad["reason"]) == ("failed", Reason.BANK_DAMAGED)


def test_a_shard_without_samples_is_not_there(tmp_path: Path) -> None:
    pictures = [Picture(b"none", "jpg", (200, 200)) for _ in range(3)]
    packed = pack(tmp_path, pictures, resolution=128, shard_samples=1)
    assert {row["outcome"] for row in packed.rows()} == {"failed"}
    assert list(packed.folder.rglob("*.tar")) == []
    assert packed.corpus["shards"] == []
    assert pq.read_table(packed.folder / "index.parquet").num_rows == 0


def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.errors import StorageError
    from curation.pack.shard import HashedFile

    def full(self: Any, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    packed = laid_out(tmp_path, PICTURES[:3], **SETTINGS)
    monkeypatch.setattr(HashedFile, "write", full)
    with pytest.raises(StorageError, match=r"no space left on the device while writing .*shards/00000.tar"):
        finish(packed.pack)
    assert list((packed.folder / "shards").iterdir()) == []
    assert committed(packed.pack.folder) == {}
