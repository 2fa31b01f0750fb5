"""The commit protocol under `kill -9`: whatever the step, a re-run ends with the same rows and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from curation.errors import CorruptionError, StorageError
from curation.fragments import committed, is_end, read_manifest
from curation.fsck import fsck
from curation.stage import kept_rows
from curation.storage import TEMP_MARK, Folder
from pipelines.engines.local import LocalEngine
from tests.forks import forked
from tests.toys import Numbers, Squares

COUNT = 60
"""Three partitions of one tar and one parquet each: the stage renames 6 files, and its manifest."""


def killed(output: Folder, moment: str, step: int) -> None:
    """`run` whose process dies before or after a rename."""
    numbers = Numbers(output, COUNT)
    LocalEngine().run_solo(numbers)
    rename, renamed = os.rename, 0

    def die_at_step(source: str, target: str) -> None:
        nonlocal renamed
        renamed += 1
        if (moment, renamed) == ("before", step):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if (moment, renamed) == ("after", step):
            os.kill(os.getpid(), signal.SIGKILL)

    os.rename = die_at_step
    LocalEngine().run_pool(Squares(output, numbers), lambda fragment: None)


def run(output: Folder) -> Squares:
    numbers = Numbers(output, COUNT)
    LocalEngine().run_solo(numbers)
    squares = Squares(output, numbers)
    LocalEngine().run_pool(squares, lambda fragment: None)
    return squares


def contents(stage: Squares) -> dict[str, bytes]:
    """uid → stored bytes, through the ledger."""
    manifest = read_manifest(stage.folder)
    assert manifest is not None
    rows = kept_rows(stage.folder, [f.name for f in manifest.fragments]).to_pylist()
    return {r["uid"]: stage.folder.read_range(r["tar"], r["offset"], r["length"]) for r in rows}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 8))
def test_killed_at_each_rename(tmp_path: Path, moment: str, step: int) -> None:
    output = Folder(tmp_path / "killed")
    code, _, err = forked(killed, output, moment, step)
    assert code == -signal.SIGKILL, err
    left = Squares(output, Numbers(output, COUNT))
    assert (read_manifest(left.folder) is not None) == (step == 7 and moment == "after")
    squares = run(output)
    whole = run(Folder(tmp_path / "whole"))
    assert contents(squares) == contents(whole)
    ours, theirs = read_manifest(squares.folder), read_manifest(whole.folder)
    assert ours is not None
    assert theirs is not None
    assert ours.counts == theirs.counts
    assert ours.counts.rows == COUNT
    findings = fsck(output, deep=True, repair=True)
    assert not [f for f in findings if f.wrong]
    assert fsck(output, deep=True) == []
    assert not [name for name in squares.folder.sizes() if TEMP_MARK in name]


def test_row_committed_twice_counts_once(tmp_path: Path) -> None:
    squares = run(Folder(tmp_path))
    expected, counts = contents(squares), squares.manifest()
    squares.folder.delete("manifest.json")
    # A worker that was thought dead, and was not, commits its partition again under a token of its own.
    for name in [n for n in committed(squares.folder)[1] if is_end(n)]:
        twin = name[:8] + "ffffffff-end.parquet"
        shutil.copy(tmp_path / squares.folder.url / name, tmp_path / squares.folder.url / twin)
    manifest = squares.settle()
    assert contents(squares) == expected
    assert counts is not None
    assert manifest.counts == counts.counts
    assert fsck(Folder(tmp_path)) != []  # the twin is named as garbage
    assert not [f for f in fsck(Folder(tmp_path), repair=True) if f.wrong]
    assert fsck(Folder(tmp_path)) == []


def test_rows_without_an_outcome_are_found(tmp_path: Path) -> None:
    squares = run(Folder(tmp_path))
    squares.folder.delete("manifest.json")
    name = committed(squares.folder)[0][0]
    squares.folder.write_table(name, squares.folder.read_table(name).slice(1))
    with pytest.raises(CorruptionError, match="1 of 20 rows have no outcome"):
        squares.settle()


def test_strange_rows_are_found(tmp_path: Path) -> None:
    squares = run(Folder(tmp_path))
    squares.folder.delete("manifest.json")
    name = committed(squares.folder)[0][0]
    table = squares.folder.read_table(name)
    strange = table.set_column(0, "uid", pa.array(["0" * 32] * table.num_rows))
    squares.folder.write_table(name, strange)
    with pytest.raises(CorruptionError, match="rows that its partition does not have"):
        squares.settle()


def test_fsck_names_each_kind_of_damage(tmp_path: Path) -> None:
    def damaged(what: str) -> list[str]:
        folder = tmp_path / what.replace(" ", "-")
        squares = run(Folder(folder))
        manifest = squares.manifest()
        assert manifest is not None
        fragment = manifest.fragments[0]
        assert fragment.tar is not None
        stage = Path(squares.folder.url)
        if what == "lost fragment":
            (stage / fragment.name).unlink()
        elif what == "cut tar":
            (stage / fragment.tar).write_bytes((stage / fragment.tar).read_bytes()[:-512])
        elif what == "lost tar":
            (stage / fragment.tar).unlink()
        elif what == "wrong totals":
            data = json.loads((stage / "manifest.json").read_text())
            data["counts"]["kept"] += 1
            (stage / "manifest.json").write_text(json.dumps(data))
        return [f.text() for f in fsck(Folder(folder)) if f.wrong]

    assert any("is gone" in text for text in damaged("lost fragment"))
    assert any("has" in text and "bytes, not" in text for text in damaged("cut tar"))
    assert any("the tar is gone" in text for text in damaged("lost tar"))
    assert any("sum of its fragments" in text for text in damaged("wrong totals"))


def test_stored_bytes_stand_where_the_ledger_says(tmp_path: Path) -> None:
    squares = run(Folder(tmp_path))
    stored = contents(squares)
    members = {}
    for path in Path(squares.folder.url).glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                members[member.name.split(".")[0]] = file.read()
                assert (member.mtime, member.uid, member.uname) == (0, 0, "")
    assert members == stored


@pytest.mark.parametrize("what", ["while writing", "at once", "a tar", "a tar of small images"])
def test_disk_full_is_one_clear_error(tmp_path: Path, what: str) -> None:
    """On a file system of 256 KiB, in a mount namespace of our own."""
    writes = {
        "at once": "folder.write_bytes('big', bytes(4_000_000))",
        "while writing": "[folder.write_bytes(f'f{i}', bytes(100_000)) for i in range(50)]",
        "a tar": "into_tar(100_000)",
        "a tar of small images": "into_tar(3_000)",
    }
    script = f"""
import sys
from curation.errors import StorageError
from curation.storage import Folder
from curation.tar import NewTar

def into_tar(size):
    tar = NewTar(folder, "images.tar")
    try:
        for i in range(200):
            tar.add(f"{{i}}.jpg", bytes(size))
        tar.commit()
    except StorageError:
        tar.abandon()
        raise

folder = Folder(sys.argv[1])
try:
    {writes[what]}
except StorageError as error:
    print(error)
print(sorted(n for n in folder.sizes() if ".tmp-" in n or n == "big"))
"""
    mounted = f'mount -t tmpfs -o size=256k tmpfs {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    done = subprocess.run(["unshare", "-m", "sh", "-c", mounted, script], capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    error, left = done.stdout.splitlines()
    assert error.startswith("no space left on the device while writing ")
    assert left == "[]"


def test_storage_names_the_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.json"):
        Folder(tmp_path).read_json("nothing.json")
