"""Students as tasks of Ray are those of one process; what a cluster has not is refused before any of them begins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from curation.ablate.arms import expand, train_config
from curation.ablate.students import Student
from curation.config.ablate import AblateConfig
from curation.errors import ConfigError
from curation.load import make
from curation.train.metrics import read_metrics
from pipelines import cluster
from pipelines.ablate import Ablated, ablate
from pipelines.students import run_on_ray
from tests.ablate.whole import whole
from tests.small_origin import small_origin

pytestmark = pytest.mark.usefixtures("ray_engine")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, sdxl_folder: Path) -> Iterator[dict[str, Any]]:
    """Settings whose corpora both engines share."""
    folder = tmp_path_factory.mktemp("ablation")
    with small_origin(40, folder / "list.parquet"):
        given = whole(folder / "list.parquet", sdxl_folder, folder / "local", fairness="equal_flops")
        given["base"]["output"] = str(folder / "data")
        yield given


@pytest.fixture(scope="module")
def local(base: dict[str, Any]) -> Ablated:
    """Done in this process, corpora and all."""
    return ablate(make(base, model=AblateConfig), engine="local")


def test_both_engines_come_to_the_same(base: dict[str, Any], local: Ablated, tmp_path: Path) -> None:
    on_ray = ablate(make({**base, "output": str(tmp_path)}, model=AblateConfig), engine="ray")
    assert on_ray.facts["scores"] == local.facts["scores"]
    assert on_ray.facts["analysis"] == local.facts["analysis"]
    assert ray.is_initialized()  # who had it keeps it


def test_a_student_of_several_processes_is_a_job_of_ray_train(
    base: dict[str, Any], local: Ablated, tmp_path: Path
) -> None:
    """One of them alone: each job starts processes of its own. It learns what a single process learns."""
    config = make({**base, "output": str(tmp_path), "run": {"workers": 2}}, model=AblateConfig)
    (arm, *_) = expand(config)
    done = local.facts["arms"][0]
    folder = str(tmp_path / "students" / "one")
    train = train_config(config, arm, 0, output=folder, corpus=done["corpus"], steps=done["steps"])
    student = Student(arm=arm.name, pair=0, train=train, packed=done["packed"])
    ended: list[Student] = []
    run_on_ray(config, [student], [train], 8, None, ended.append)
    assert ended == [student]
    assert json.loads((Path(folder) / "run.json").read_text())["devices"] == 2
    assert (Path(folder) / "evaluation.json").exists()
    losses = [[line["loss"] for line in read_metrics(Path(of))] for of in (folder, done["students"][0]["folder"])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("asked", [{"cpus": 1000}, {"gpus": 1, "workers": 2}])
def test_more_than_the_cluster_has_is_refused_before_any_corpus(
    base: dict[str, Any], tmp_path: Path, asked: dict[str, int]
) -> None:
    fresh = {**base, "base": {**base["base"], "output": str(tmp_path / "data")}}
    config = make({**fresh, "output": str(tmp_path / "out"), "run": asked}, model=AblateConfig)
    with pytest.raises(ConfigError, match=r"run\."):
        ablate(config, engine="ray")
    assert not (tmp_path / "data").exists()


def test_who_asks_for_no_gpu_sees_none() -> None:
    """Any number of students on one GPU, of which Ray knows nothing, would be without memory."""
    task = ray.remote(num_cpus=1)(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert ray.get(task.remote()) == ""


def test_a_cluster_of_its_own_is_given_back(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("left"))
    monkeypatch.setattr(cluster, "join_cluster", lambda address: done.append("joined"))
    config = make({**base, "output": str(tmp_path), "run": {"cpus": 1000}}, model=AblateConfig)
    with pytest.raises(ConfigError, match=r"run\.cpus"):
        ablate(config, engine="ray")
    assert done == ["joined", "left"]
