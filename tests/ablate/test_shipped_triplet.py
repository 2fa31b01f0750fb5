"""The ablation that `make ablation` runs, as it is shipped but small: its pictures, its teacher, its judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.ablate.arms import load_ablate_config
from curation.scenes.studio_shards import write_studio
from pipelines.ablate import ablate
from tests.journey import ROOT


def test_the_claim_is_put_to_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the config names the teacher as it lies in the checkout
    write_studio(tmp_path / "studio", 68, processes=1)
    changed = [
        f"output={tmp_path / 'out'}",
        f"base.output={tmp_path / 'data'}",
        f"base.source.path={tmp_path / 'studio'}/*.tar",
        "arms.few-high-dense={stages.select.where: number < 16}",
        "train.recipe.teacher.sampling.steps=2",
        "train.data.batch=8",
        "train.loop.steps=2",
        "train.optimizer.warmup=1",
        "train.loop.log_every=1",
        "seeds=2",
        "evaluation.prompts=4",
        "verdict.repetitions=100",
    ]
    found = ablate(load_ablate_config("configs/ablations/scenes_triplet.yaml", changed), engine="local")
    arms = {arm["name"]: arm for arm in found.facts["arms"]}
    assert {name: (arm["samples"], arm["resolution"]) for name, arm in arms.items()} == {
        "many-low-short": (68, 16),
        "many-low-dense": (68, 16),
        "few-high-dense": (16, 48),
    }
    assert arms["many-low-short"]["caption_words"] < 8 < 15 < arms["many-low-dense"]["caption_words"]
    assert len(found.sentences) == 3
    assert found.facts["references"]["true pictures"]["means"]["rich.share"] > 0.97
    assert Path(found.report).exists()
