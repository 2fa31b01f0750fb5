"""What the README shows works: its config is the one in configs/, its commands exist, its operator runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer.main
import yaml

from curation.load import load_config
from curation.op import load_operator
from pipelines.cli import app
from tests.journey import ROOT
from tests.pack.make_bank import pack, picture

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    assert found
    return found


def test_the_small_config_is_valid(tmp_path: Path) -> None:
    small, _ = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(small)
    assert load_config(tmp_path / "mine.yaml").stages.pack.primary == "dense"


def test_config_is_the_one_in_the_repository() -> None:
    _, shown = blocks("yaml")
    shipped = yaml.safe_load((ROOT / "configs" / "laion_hr.yaml").read_text())
    del shipped["seed"]
    assert yaml.safe_load(shown) == shipped


def test_operator_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, code = blocks("python")
    (tmp_path / "my_ops.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    operator = load_operator("my_ops:CaptionWords", "stages.score.ops.0")()
    table = operator.process(pa.table({"alt_text": ["a red cat", None]}))
    assert table["caption_words"].to_pylist() == [3, 0]
    del sys.modules["my_ops"]


def test_training_loop_runs(tmp_path: Path) -> None:
    dense = [pa.field(name, pa.string()) for name in ("caption_dense", "caption_short")]
    pictures = [picture(i, (90, 80), caption_dense=f"dense {i}", caption_short=f"short {i}") for i in range(300)]
    corpus = pack(tmp_path, pictures, dense, resolution=64).folder
    code, _ = blocks("python")
    found: dict[str, Any] = {}
    exec(code.replace("runs/laion-hr/pack-0a1b2c3d4e5f", str(corpus)).replace("workers=4", "workers=0"), found)
    assert found["pixels"].shape[:2] == (32, 3)
    assert {text.partition(" ")[0] for text in found["captions"]} == {"dense", "short", ""}
    assert found["state"]["step"] == 1


def test_commands_exist() -> None:
    used = set(re.findall(r"^    curate (\w+)", README, re.M))
    assert used >= {"run", "plan", "explain", "report", "fsck"}
    assert used <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_files_it_names_are_there() -> None:
    for path in re.findall(r"\]\(([\w./-]+)\)", README) + re.findall(r"configs/\w+\.yaml", README):
        assert (ROOT / path).exists(), path
    make = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.M):
        assert f"\n{target}: " in make
