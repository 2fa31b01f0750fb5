"""A training on Ray Train: the same `curation.train.run.train`, once a worker. `curate train` is this call.

    from pipelines.train import train_on_ray

    facts = train_on_ray(config, workers=8, gpus=True)

The output must be a folder that all machines share. A worker that dies takes its group with it; Ray starts the group
again, and each worker goes on from the last checkpoint there.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from curation.config.train import TrainConfig
from curation.errors import ConfigError, RunError, StorageError
from curation.train.watcher import Watcher
from pipelines.cluster import cluster, enter

FOLLOW_SECONDS = 2.0
STOP_SECONDS = 120.0
"""That the workers have to end their step and write a checkpoint. Whoever asks once more does not wait."""
RESTARTS = 3
"""Times that a group of workers is started again."""


def train_on_ray(
    config: TrainConfig,
    *,
    workers: int = 1,
    gpus: bool = False,
    address: str | None = None,
    restarts: int = RESTARTS,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Train on `workers` processes, each with a GPU or a CPU; returns what the run's `run.json` says.

    `watcher` hears of the steps, from a thread; it cannot end them. KeyboardInterrupt can: the workers end after their
    step, with a checkpoint, before it goes on. Raises what a worker raised on purpose, which would come again, and
    RunError where the workers failed more than `restarts` times.
    """
    from curation.train.run import finished

    if not config.data.corpora:
        raise ConfigError("data.corpora", "names no corpus: give --corpus DIR")
    if (done := finished(config)) is not None:
        return done.facts
    words = _Words.of(config)
    watcher = watcher or Watcher()
    # Ray's own notes on the run; what a training leaves is in its output
    with tempfile.TemporaryDirectory(prefix="curate-train-") as notes, cluster(address):
        trainer = TorchTrainer(
            _worker,
            train_loop_config={
                "config": config.model_dump(mode="json"),
                "folder": os.getcwd(),
                "words": words,
            },
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=RunConfig(
                name=config.name,
                storage_path=notes if address is None else os.path.abspath(config.output),
                failure_config=FailureConfig(max_failures=restarts),
            ),
        )
        try:
            with _followed(config, watcher):
                _fit(trainer, words.stop, watcher)
        except TrainingFailedError as error:
            _raise_again(words.failed)
            raise RunError(f"the workers failed more than {restarts} times; the last: {_reason(error)}") from error
    _raise_again(words.failed)
    result = finished(config)
    if result is None:
        raise RunError(f"the workers ended without a result in {config.output}: is it a folder that they share?")
    return result.facts


@dataclass(frozen=True)
class _Words:
    """Files in the output, which is shared, by which the command and its workers speak."""

    failed: Path
    """What a worker met that would come again."""
    stop: Path
    """The command's wish to end."""

    @classmethod
    def of(cls, config: TrainConfig) -> _Words:
        name = uuid4().hex
        return cls(Path(config.output, f"failed-{name}.json"), Path(config.output, f"stop-{name}"))


def _fit(trainer: TorchTrainer, stop: Path, watcher: Watcher) -> None:
    """`trainer.fit()` from a thread: from the main one Ray Train takes Ctrl-C for itself, for good.

    On KeyboardInterrupt `stop` is there until the workers have ended, for `STOP_SECONDS` at most.
    """
    ended: Future[None] = Future()

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=fit, name="curate-fit", daemon=True).start()
    try:
        ended.result()
    except KeyboardInterrupt:
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()
        watcher.stopping()
        try:
            wait([ended], STOP_SECONDS)
        finally:
            stop.unlink(missing_ok=True)
        raise


@contextmanager
def _followed(config: TrainConfig, watcher: Watcher) -> Iterator[None]:
    """Tells `watcher` of the lines that the first worker writes into the output, which is shared."""
    from curation.train.metrics import read_metrics

    folder, ended = Path(config.output), threading.Event()
    done = max((line["step"] for line in read_metrics(folder)), default=0)

    def follow() -> None:
        told, last = done, False
        while not last:
            last = ended.wait(FOLLOW_SECONDS)
            for line in read_metrics(folder):
                if line["step"] > told:
                    told = line["step"]
                    watcher.step(line)

    watcher.starts({"done": done, "steps": config.loop.steps})
    thread = threading.Thread(target=follow, name="curate-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _worker(given: dict[str, Any]) -> None:
    """What each worker does. A first rank that met an error which would come again leaves word of it for those that Ray
    starts in its place, however often: they end at once."""
    from curation.train.run import train

    enter(given["folder"])
    words: _Words = given["words"]
    # One answer for all, or some would wait for those that have ended.
    if broadcast_from_rank_zero(words.failed.exists() or words.stop.exists()):
        return
    try:
        train(TrainConfig.model_validate(given["config"]), _Asked(words.stop))
    except _Stopped:
        return
    except StorageError:  # a shared folder may be back in a moment
        raise
    except (ConfigError, RunError) as error:
        if ray.train.get_context().get_world_rank() == 0:
            path = error.path if isinstance(error, ConfigError) else None
            told = {"setting": path, "error": error.problem if isinstance(error, ConfigError) else str(error)}
            words.failed.parent.mkdir(parents=True, exist_ok=True)
            words.failed.write_text(json.dumps(told), encoding="utf-8")
        raise


class _Stopped(BaseException):
    """The command wished so; the steps are in a checkpoint."""


class _Asked(Watcher):
    """Asks after each step whether the command wishes to end."""

    def __init__(self, stop: Path) -> None:
        self._stop = stop

    def stop(self) -> BaseException | None:
        return _Stopped() if self._stop.exists() else None


def _raise_again(word: Path) -> None:
    """What a worker left word of."""
    if word.exists():
        told = json.loads(word.read_text(encoding="utf-8"))
        word.unlink()
        raise RunError(told["error"]) if told["setting"] is None else ConfigError(told["setting"], told["error"])


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
