"""One model of the embedded world, asked what students are asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curation.ablate.ask import main
from curation.ablate.measure import metric_names
from curation.config.ablate import SceneEvaluation


def test_all_that_an_ablation_measures_of_a_model(
    sdxl_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(sdxl_folder), "--steps", "1", "--guidance", "1", "--prompts", "2"]
    monkeypatch.setattr(sys, "argv", ["ask", *arguments])
    assert main() == 0
    told = {name: float(value) for name, value in (line.split() for line in capsys.readouterr().out.splitlines())}
    measured = metric_names(SceneEvaluation(kind="scenes", prompts=2))
    assert set(told) == {name for name in measured if not name.endswith("nearest_training")}
    assert all(0 <= told[f"{kind}.share"] <= 1 for kind in ("rich", "short"))


def test_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ask", "./nowhere"])
    assert main() == 2
    assert "no folder ./nowhere" in capsys.readouterr().out
