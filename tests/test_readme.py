"""What the README shows works: its config is the one in configs/, its commands exist, its operator runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import typer.main
import yaml

from curation.op import load_operator
from pipelines.cli import app
from tests.journey import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    assert found
    return found


def test_config_is_the_one_in_the_repository() -> None:
    (shown,) = blocks("yaml")
    shipped = yaml.safe_load((ROOT / "configs" / "laion_hr.yaml").read_text())
    del shipped["seed"]
    assert yaml.safe_load(shown) == shipped


def test_operator_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    (tmp_path / "my_ops.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    operator = load_operator("my_ops:CaptionWords", "stages.score.ops.0")()
    table = operator.process(pa.table({"alt_text": ["a red cat", None]}))
    assert table["caption_words"].to_pylist() == [3, 0]
    del sys.modules["my_ops"]


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
