"""Ray Train's workers read the same global batches as one process does."""

from __future__ import annotations

import json
from pathlib import Path

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from tests.pack.make_bank import pack, picture
from tests.stream.conftest import keys


def read_all(config: dict[str, str]) -> None:
    from curation.config.stream import StreamSettings
    from pipelines.feed import loader_of_worker

    loader = loader_of_worker(StreamSettings.model_validate_json(config["stream"]))
    found = [batch["keys"] for batch in loader]
    Path(config["out"], f"{loader.stream.rank}.json").write_text(json.dumps(found))


def test_two_workers_share_each_global_batch(tmp_path: Path) -> None:
    from curation.config.stream import StreamSettings
    from curation.stream.stream import CorpusStream

    corpus = pack(tmp_path, [picture(i, (80, 80)) for i in range(40)], resolution=64, shard_samples=9).folder
    settings = StreamSettings.model_validate({"corpora": [{"path": str(corpus)}], "batch": 8})
    out = tmp_path / "out"
    out.mkdir()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        TorchTrainer(
            read_all,
            train_loop_config={"stream": settings.model_dump_json(), "out": str(out)},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(tmp_path / "ray")),
        ).fit()
    finally:
        ray.shutdown()
    parts = [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]
    assert [one + two for one, two in zip(*parts, strict=True)] == keys(CorpusStream(settings))
