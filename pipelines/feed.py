"""A corpus for the workers of Ray Train: each gets its rank's share of the same global batches.

    def train_loop(config):
        loader = loader_of_worker(StreamSettings.model_validate(config["stream"]), workers=4)
        for batch in loader: ...

    TorchTrainer(train_loop, train_loop_config=…, scaling_config=ScalingConfig(num_workers=8)).fit()

The order does not depend on the number of workers, so a job that Ray restarts with fewer of them goes on with exactly
the next batch: keep `loader.state_dict()` in the checkpoint.
"""

from __future__ import annotations

from typing import Any

import ray.train

from curation.config.stream import StreamSettings
from curation.stream.loader import CorpusLoader
from curation.stream.stream import CorpusStream


def stream_of_worker(settings: StreamSettings) -> CorpusStream:
    """The stream of the Ray Train worker that calls this."""
    context = ray.train.get_context()
    return CorpusStream(settings, rank=context.get_world_rank(), world=context.get_world_size())


def loader_of_worker(settings: StreamSettings, **options: Any) -> CorpusLoader:
    """The same as a loader; `options` are those of `CorpusLoader`."""
    return CorpusLoader(stream_of_worker(settings), **options)
