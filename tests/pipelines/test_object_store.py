"""The whole journey onto an object store: a real S3-speaking server on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.explain import explain
from curation.fsck import fsck
from curation.run_log import read_run
from curation.storage import Folder
from pipelines.curate import run
from tests.conftest import OpenGallery
from tests.journey import config, corpus_bytes, curate, kept_url, settings, stage_folder, write_config
from tests.s3 import SECRET, s3_bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("corpora") as url:
        yield url


def shard_hashes(folder: Folder) -> dict[str, str]:
    names = [f"shards/{name}" for name in folder.child("shards").sizes()] + ["index.parquet", "wids.json"]
    return {name: hashlib.sha256(folder.read_bytes(name)).hexdigest() for name in names}


def test_run_resume_and_check_on_an_object_store(bucket: str, gallery: OpenGallery, done: Path, tmp_path: Path) -> None:
    output = f"{bucket}/run"
    listed = f"{bucket}/list.parquet"
    Folder(bucket).write_bytes("list.parquet", gallery.listed.read_bytes())
    path = write_config(tmp_path / "config.yaml", settings(listed, output))
    process = curate("run", path, "--engine", "ray")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert f"corpus  {output}/pack-" in out
    log = err.partition("log: ")[2]
    assert SECRET not in out + err + log
    assert fsck(Folder(output), deep=True) == []
    assert Folder(output).exists("report.html")

    # The same bytes as on a disk, but for what names the list.
    remote, local = shard_hashes(stage_folder(output, "pack")), corpus_bytes(done)
    assert {n: h for n, h in local.items() if n in remote} == remote

    # A pack that lost its manifest and one shard's ledger goes on, and nothing is fetched.
    pack = stage_folder(output, "pack")
    lost = next(name for name in sorted(pack.sizes()) if name.startswith("p") and name.endswith("-end.parquet"))
    pack.delete("manifest.json")
    pack.delete(lost)
    run(config(listed, output), engine="local")
    assert {s["name"]: s["cached"] for s in read_run(Folder(output))["stages"]} == {
        "source": True,
        "fetch": True,
        "select": True,
        "layout": True,
        "pack": False,
    }
    assert shard_hashes(pack) == remote
    assert len(explain(Folder(output), kept_url(gallery.gallery, output))) == 5
    assert json.loads(pack.read_bytes("wids.json"))["__kind__"] == "wids-shard-index-v1"


def test_store_that_refuses_is_one_clear_line(bucket: str, gallery: OpenGallery, tmp_path: Path) -> None:
    path = write_config(tmp_path / "config.yaml", settings(gallery.listed, "s3://no-such-bucket/run"))
    process = curate("run", path, "--engine", "local")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert len(err.strip().splitlines()) == 1
    assert "no-such-bucket" in err
