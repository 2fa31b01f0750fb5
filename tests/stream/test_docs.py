"""What `docs/stream.md` shows runs, block by block, on a small corpus and an S3 server; see `test_ray_train` too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from tests.journey import ROOT
from tests.s3 import s3_bucket
from tests.stream.foreign import tars

Run = Callable[..., dict[str, Any]]

TEXT = (ROOT / "docs" / "stream.md").read_text()
FIRST, TENSORS, LOADERS, RAY, MIXING, AFAR = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_loops_and_loaders(run: Run) -> None:
    found = run(FIRST, TENSORS, LOADERS)
    assert found["pixels"].shape[:2] == (16, 3)
    assert found["state"]["step"] == 1
    assert len(found["batch"]["keys"]) == 16
    wanted = [batch["keys"] for batch in found["loader"]]
    assert [batch["keys"] for batch in found["plain"]] == wanted
    assert [batch["keys"] for batch in found["kept"]] == wanted


def test_mixing(run: Run) -> None:
    found = run(FIRST, MIXING)
    plan = found["stream"].plan()
    assert len(found["left_out"]) == len(plan.dropped) > 0
    assert (plan.samples < 110).mean() == pytest.approx(0.75, abs=0.05)


def test_shards_from_afar(run: Run, corpus: Path) -> None:
    with s3_bucket("shown") as bucket:
        fsspec.filesystem("s3").put(str(corpus), f"{bucket}/one", recursive=True)
        assert run(FIRST, AFAR)["pixels"].shape[:2] == (16, 3)


def test_the_command_that_indexes(tmp_path: Path) -> None:
    (command,) = re.findall(r"`curate (index .*?)`", TEXT)
    tars(tmp_path)
    done = CliRunner().invoke(app, command.replace("FOLDER", str(tmp_path)).replace("1024", "64").split())
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"part-0.tar", "part-1.tar", "index.parquet", "manifest.json"}
