"""What `docs/stream.md` shows runs, block after block, on a small corpus, an S3 server and Ray's workers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fsspec
import pytest
import ray
from typer.testing import CliRunner

from pipelines.cli import app
from tests.journey import ROOT
from tests.s3 import s3_bucket
from tests.stream.foreign import tars

TEXT = (ROOT / "docs" / "stream.md").read_text()
FIRST, TENSORS, LOADERS, RAY, MIXING, AFAR = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture
def run(corpus: Path, other_corpus: Path, tmp_path: Path) -> Any:
    """Runs blocks one after the other, with their paths here; returns their variables."""
    here = {
        '"runs/laion-hr/pack-0a1b2c3d4e5f"': repr(str(corpus)),
        '"runs/photos/pack-5f4e3d2c1b0a"': repr(str(other_corpus)),
        '"/scratch/shards"': repr(str(tmp_path)),
        '"s3://corpora/laion-hr/pack-0a1b2c3d4e5f"': '"s3://shown/one"',
        '"batch": 256': '"batch": 16',
    }

    def run(*blocks: str) -> dict[str, Any]:
        found: dict[str, Any] = {"__name__": "__main__"}  # so that Ray sends functions by value
        for block in blocks:
            for shown, real in here.items():
                block = block.replace(shown, real)
            exec(block, found)
        return found

    return run


def test_loops_and_loaders(run: Any) -> None:
    found = run(FIRST, TENSORS, LOADERS)
    assert found["pixels"].shape[:2] == (16, 3)
    assert found["state"]["step"] == 1
    assert len(found["batch"]["keys"]) == 16
    wanted = [batch["keys"] for batch in found["loader"]]
    assert [batch["keys"] for batch in found["plain"]] == wanted
    assert [batch["keys"] for batch in found["kept"]] == wanted


def test_ray_train(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray Train leaves its results there
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        run(FIRST, RAY)
    finally:
        ray.shutdown()


def test_mixing(run: Any) -> None:
    found = run(FIRST, MIXING)
    plan = found["stream"].plan()
    assert len(found["left_out"]) == len(plan.dropped) > 0
    assert (plan.samples < 110).mean() == pytest.approx(0.75, abs=0.05)


def test_shards_from_afar(run: Any, corpus: Path) -> None:
    with s3_bucket("shown") as bucket:
        fsspec.filesystem("s3").put(str(corpus), f"{bucket}/one", recursive=True)
        assert run(FIRST, AFAR)["pixels"].shape[:2] == (16, 3)


def test_the_command_that_indexes(tmp_path: Path) -> None:
    (command,) = re.findall(r"`curate (index .*?)`", TEXT)
    tars(tmp_path)
    done = CliRunner().invoke(app, command.replace("FOLDER", str(tmp_path)).replace("1024", "64").split())
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"part-0.tar", "part-1.tar", "index.parquet", "manifest.json"}
