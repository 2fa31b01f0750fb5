"""What a run shows as it goes on: each stage's rate in the units of its work, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from curation.caption.stage import CaptionStage
from curation.config import CaptionSettings, ScoreSettings
from curation.fragments import Counts, Fragment, Manifest
from curation.score.stage import ScoreStage
from curation.stage import Stage
from curation.storage import Folder
from pipelines import progress
from pipelines.progress import Progress
from tests.toys import Numbers, Squares

COUNTS = Counts(rows=1000, kept=900, rejected=100, sums={"captioning_tokens": 90_000, "square": 7})


def made(name: str, tmp_path: Path) -> Stage:
    folder = Folder(tmp_path)
    numbers = Numbers(folder, 10)
    if name == "score":
        return ScoreStage(folder, numbers, ScoreSettings(ops=("sharpness",)), folder)
    if name == "caption":
        return CaptionStage(folder, numbers, CaptionSettings(model="org/model", kinds=("dense", "short")), folder)
    return Squares(folder, numbers)


def shown(stage: Stage, *, terminal: bool, seconds: float = 60.0, counts: Counts = COUNTS, cached: bool = False) -> str:
    """All that is printed for a stage of one fragment, without the codes of a terminal."""
    file = io.StringIO()
    watcher = Progress(Console(file=file, force_terminal=terminal, width=200, highlight=False))
    fragment = Fragment("p000000-0.parquet", counts)
    watcher.stage_starts(stage, 4000, 0)
    watcher.fragment(stage, fragment)
    watcher.stage_ends(stage, Manifest(stage.name, "0" * 12, {}, None, counts, (fragment,)), seconds, cached)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("name", "live", "end"),
    [
        ("score", r"1,000/4,000 rows  90\.0% kept  [\d,]+ images/s  ", "60.0 s  17 images/s"),
        ("caption", r"90\.0% kept  [\d,]+ captions/s  [\d,]+ tokens/s  ", "60.0 s  30 captions/s  1,500 tokens/s"),
        ("squares", r"90\.0% kept  [\d,]+ rows/s  ", "60.0 s"),
    ],
)
def test_rates_in_the_units_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, live: str, end: str, terminal: bool
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    text = shown(made(name, tmp_path), terminal=terminal)
    assert re.search(live, text)
    assert text.rstrip().endswith(f"1,000 rows  900 kept  100 rejected  {end}")


def test_slow_models_have_rates_too(tmp_path: Path) -> None:
    text = shown(made("caption", tmp_path), terminal=False, seconds=3600, counts=Counts(9, 9, sums={}))
    assert text.rstrip().endswith("3600.0 s  0.005 captions/s  0 tokens/s")


@pytest.mark.parametrize(("seconds", "cached"), [(0.0, False), (60.0, True)])
def test_no_rate_where_nothing_was_timed(tmp_path: Path, seconds: float, cached: bool) -> None:
    text = shown(made("caption", tmp_path), terminal=False, seconds=seconds, cached=cached)
    assert text.rstrip().endswith("100 rejected  cached" if cached else "100 rejected  0.0 s")
