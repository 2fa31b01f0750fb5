"""Ray Train's workers read the same global batches as one process does; and what `docs/stream.md` shows of it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray.train.constants
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from curation.config.stream import StreamSettings
from curation.stream.stream import CorpusStream
from tests.stream.conftest import keys
from tests.stream.test_docs import FIRST, RAY, Run

pytestmark = pytest.mark.usefixtures("ray_engine")


def read_all(config: dict[str, str]) -> None:
    from pipelines.feed import loader_of_worker

    loader = loader_of_worker(StreamSettings.model_validate_json(config["stream"]))
    found = [batch["keys"] for batch in loader]
    Path(config["out"], f"{loader.stream.rank}.json").write_text(json.dumps(found))


def test_two_workers_share_each_global_batch(corpus: Path, tmp_path: Path) -> None:
    settings = StreamSettings.model_validate({"corpora": [{"path": str(corpus)}], "batch": 8})
    TorchTrainer(
        read_all,
        train_loop_config={"stream": settings.model_dump_json(), "out": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path / "ray")),
    ).fit()
    parts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [one + two for one, two in zip(*parts, strict=True)] == keys(CorpusStream(settings))


def test_what_the_documentation_shows(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else results go to the home folder. (Moving that folder would part Ray from the token that it keeps there.)
    monkeypatch.setattr(ray.train.constants, "DEFAULT_STORAGE_PATH", str(tmp_path / "results"))
    run(FIRST, RAY)
