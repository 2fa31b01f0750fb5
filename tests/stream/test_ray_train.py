"""Ray Train's workers read the same global batches as one process does; and what `docs/stream.md` shows of it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import ray.train.constants
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from curation.config.stream import StreamSettings
from curation.stream.stream import CorpusStream
from tests.stream.conftest import keys
from tests.stream.test_docs import FIRST, RAY, Run


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two CPUs, for both tests."""
    with pytest.MonkeyPatch.context() as patch:
        # Else results go to the home folder. (Moving that folder would part Ray from the token that it keeps there.)
        patch.setattr(ray.train.constants, "DEFAULT_STORAGE_PATH", str(tmp_path_factory.mktemp("results")))
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        yield
        ray.shutdown()


def read_all(config: dict[str, str]) -> None:
    from pipelines.feed import loader_of_worker

    loader = loader_of_worker(StreamSettings.model_validate_json(config["stream"]))
    found = [batch["keys"] for batch in loader]
    Path(config["out"], f"{loader.stream.rank}.json").write_text(json.dumps(found))


@pytest.mark.usefixtures("cluster")
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


@pytest.mark.usefixtures("cluster")
def test_what_the_documentation_shows(run: Run) -> None:
    run(FIRST, RAY)
