"""What `curate plan` says of an ablation: what is shared and what is to be paid; it needs neither lists nor a hub."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from curation.ablate.arms import load_ablate_config
from curation.config.ablate import AblateConfig
from curation.errors import ConfigError
from curation.load import make
from pipelines.ablate_plan import AblationPlan, Branch, plan_ablation
from pipelines.ablate_plan_text import lines, show_plan
from pipelines.cli import app
from tests.ablate.whole import whole
from tests.journey import ROOT

CONFIGS = sorted(path.name for path in (ROOT / "configs/ablations").glob("*.yaml"))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    rows = {"URL": [f"http://127.0.0.1:1/{i}.jpg" for i in range(30)], "TEXT": ["a dog"] * 30}
    pq.write_table(pa.table(rows), tmp_path / "list.parquet")
    return tmp_path / "list.parquet"


def planned(tmp_path: Path, listed: Path, **changed: Any) -> tuple[AblateConfig, AblationPlan]:
    config = make(whole(listed, tmp_path / "teacher", tmp_path / "out", **changed), model=AblateConfig)
    return config, plan_ablation(config)


def shape(branch: Branch) -> Any:
    """Stage, arms, and the same of what comes after."""
    return branch.planned.stage, branch.arms, [shape(after) for after in branch.after]


def test_stages_are_shared_until_the_first_difference(tmp_path: Path, listed: Path) -> None:
    arms = {
        "plain": {},
        "words": {"train.data.captions": {"alt": 1}},
        "low": {"stages.pack.buckets": [[8, 8]]},
        "few": {"stages.select.top": 3, "stages.select.by": "width"},
    }
    verdict = {"primary": "rich.share", "minimum_effect": 0.1}
    _, found = planned(tmp_path, listed, arms=arms, verdict=verdict)
    ends: list[Any] = []
    same, low, few = ("plain", "words"), ("low",), ("few",)
    select = [
        (
            "select",
            (*same, *low),
            # The layout says which bucket a picture goes to, so packs of other sizes share nothing from there on.
            [("layout", same, [("pack", same, ends)]), ("layout", low, [("pack", low, ends)])],
        ),
        ("select", few, [("layout", few, [("pack", few, ends)])]),
    ]
    everyone = (*same, *low, *few)
    assert [shape(branch) for branch in found.branches] == [("source", everyone, [("fetch", everyone, select)])]
    assert {branch.planned.state for branch in found.branches} == {"to run"}


def test_what_is_to_be_paid(tmp_path: Path, listed: Path) -> None:
    _, found = planned(tmp_path, listed)
    assert found.fetches is None  # a list that nobody has read
    told = "\n".join(lines(found))
    assert "4 students, 16 steps, 64 samples" in told
    assert "nothing says how long a step takes" in told
    assert "as many rows as the lists hold, each once for all arms" in told


def test_what_arms_do_not_share_is_told(tmp_path: Path, listed: Path) -> None:
    arms = {"soft": {}, "sharp": {"stages.fetch.min_side": 100}}
    verdict = {"primary": "rich.share", "minimum_effect": 0.1}
    _, found = planned(tmp_path, listed, arms=arms, verdict=verdict)
    assert "in 2 branches: what is in several is fetched in each" in "\n".join(lines(found))


def test_hours_are_reckoned_with_what_is_known_beforehand(tmp_path: Path, listed: Path) -> None:
    _, found = planned(tmp_path, listed, run={"seconds_per_step": 450})
    assert found.seconds == 16 * 450
    _, apart = planned(tmp_path, listed, run={"seconds_per_step": 450, "workers": 2})
    assert apart.seconds == 2 * 16 * 450, "of two devices"
    told = "\n".join(lines(found))
    assert "2 device hours" in told
    assert "48 pictures to paint" in told  # 4 students, 6 scenes, in two ways


def test_equal_epochs_cannot_be_told_before_the_corpora_are_there(tmp_path: Path, listed: Path) -> None:
    _, found = planned(tmp_path, listed, fairness="equal_epochs")
    assert [training.steps for training in found.trainings] == [None, None]
    told = "\n".join(lines(found))
    assert "fairness needs the corpora" in told
    assert "nothing says how long a step takes" in told
    _, timed = planned(tmp_path, listed, fairness="equal_epochs", run={"seconds_per_step": 2})
    assert "nothing says" not in "\n".join(lines(timed))


def test_what_the_evaluation_lacks_is_told(tmp_path: Path, listed: Path) -> None:
    metrics = [{"name": "kid", "model": "some/clip"}]
    asked = {"kind": "models", "prompts": "prompts.txt", "reference": "photos", "metrics": metrics}
    _, found = planned(tmp_path, listed, evaluation=asked, verdict={"primary": "kid", "minimum_effect": 0.1})
    assert found.pictures is None
    assert "not here: prompts.txt, photos" in "\n".join(lines(found))


def test_settings_that_cannot_work_are_named(tmp_path: Path, listed: Path) -> None:
    verdict = {"primary": "rich.share", "minimum_effect": 0.1}
    wrong = {
        "stages.pack.primary": ("dense", "'dense': no stage writes such captions; there is alt"),
        "stages.select.where": ("width >", "is no SQL expression"),
    }
    for setting, (value, why) in wrong.items():
        with pytest.raises(ConfigError, match=rf"arms\.b\.{re.escape(setting)}: .*{why}.*in arm 'b'"):
            planned(tmp_path, listed, arms={"a": {}, "b": {setting: value}}, verdict=verdict)
    with pytest.raises(ConfigError, match=r"verdict\.primary"):
        planned(tmp_path, listed, verdict={"primary": "beauty", "minimum_effect": 0.1})
    arms = {"a": {}, "b": {"stages.score": {"ops": ["clip"], "clip": str(tmp_path / "clip")}}}
    with pytest.raises(ConfigError, match=r"arms\.b\.stages\.score\.clip: .*in arm 'b'"):
        planned(tmp_path, listed, arms=arms, verdict=verdict)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_ablation_can_be_planned_without_lists_models_or_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)  # where no list and no model of theirs is
    config = load_ablate_config(ROOT / "configs/ablations" / name, [f"output={tmp_path}"])
    found = plan_ablation(config)
    assert config.verdict.claims
    assert {arm for branch in found.branches for arm in branch.arms} == set(config.levels)
    console = Console(width=80, file=io.StringIO())
    show_plan(config, console)
    printed = console.file.getvalue()
    assert all(
        re.search(rf"{re.escape(arm)}  \d+ students of .* samples$", printed, re.MULTILINE) for arm in config.levels
    )


def test_the_command_tells_an_ablation_by_its_arms() -> None:
    done = CliRunner().invoke(app, ["plan", str(ROOT / "configs/ablations/koala_data.yaml")])
    assert done.exit_code == 0
    assert "15 students, 450,000 steps, 14,400,000 samples" in done.output
    assert "2 of the arms" in done.output
