"""Students as tasks of Ray are those of one process; what a cluster has not is refused before any of them begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from curation.config.ablate import AblateConfig
from curation.errors import ConfigError
from curation.load import make
from pipelines.ablate import ablate
from tests.ablate.whole import whole
from tests.small_origin import small_origin


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, sdxl_folder: Path) -> Iterator[dict[str, object]]:
    """Settings whose corpora both engines share."""
    folder = tmp_path_factory.mktemp("ablation")
    with small_origin(40, folder / "list.parquet"):
        given = whole(folder / "list.parquet", sdxl_folder, folder / "local", fairness="equal_flops")
        given["base"]["output"] = str(folder / "data")
        yield given


def test_both_engines_come_to_the_same(base: dict[str, object], tmp_path: Path) -> None:
    local = ablate(make(base, model=AblateConfig), engine="local")
    on_ray = ablate(make({**base, "output": str(tmp_path)}, model=AblateConfig), engine="ray")
    assert on_ray.facts["scores"] == local.facts["scores"]
    assert on_ray.facts["analysis"] == local.facts["analysis"]
    assert not ray.is_initialized()


def test_students_of_several_processes_are_jobs_of_ray_train(base: dict[str, object], tmp_path: Path) -> None:
    given = {**base, "output": str(tmp_path), "run": {"workers": 2}}
    found = ablate(make(given, model=AblateConfig), engine="ray")
    students = [student for arm in found.facts["arms"] for student in arm["students"]]
    assert [student["devices"] for student in students] == [2] * 4
    local = ablate(make(base, model=AblateConfig), engine="local")
    assert found.facts["prompts"] == local.facts["prompts"]
    assert [arm["steps"] for arm in found.facts["arms"]] == [arm["steps"] for arm in local.facts["arms"]]


def test_more_than_the_cluster_has_is_refused(base: dict[str, object], tmp_path: Path) -> None:
    config = make({**base, "output": str(tmp_path), "run": {"gpus": 1000}}, model=AblateConfig)
    with pytest.raises(ConfigError, match=r"run\.gpus"):
        ablate(config, engine="ray")
    assert not list(tmp_path.glob("students/*/model"))
