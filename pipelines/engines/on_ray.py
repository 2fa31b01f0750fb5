"""Stages on Ray Data: partitions stream through a pool of actors, which commit fragments where their rows are made.

What travels through Ray are names: a partition's number in, a fragment's name and counts out. Pixels and rows go
straight from the worker to storage, so no block ever holds an image, memory does not depend on the size of the corpus,
and it does not matter how Ray fuses blocks. Fragments are committed by
the workers, not by a Datasink: a block that waits for its writer is work that a crash would lose.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import warnings
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import ray
import ray.data

from curation.errors import ConfigError, CurationError, RunError
from curation.fragments import Counts, Fragment
from curation.stage import Partition, Pool, Pooled, Solo, Stage
from pipelines.cluster import cluster, enter, largest_machine
from pipelines.engines import OnFragment

RETRIES = 4
"""A partition whose worker died this often and once more ends the run. Images cannot kill a worker (they are decoded in
a child), so it is a bug or a machine without memory. Ray's own default is to try for ever."""


class RayEngine:
    """One Ray session for the whole run: the caller's, else a cluster of our own on this machine, or the one at
    `address`."""

    name = "ray"

    def __init__(self, address: str | None = None) -> None:
        self._session = ExitStack()
        self._session.enter_context(cluster(address))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = 0
        # Each fragment is a block of its own, so that the driver hears of it when it is committed.
        context.target_max_block_size = 1
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # `max_task_retries` has no named parameter yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")

    def check(self, stage: Pooled) -> None:
        asked = self._pool(stage).gpus
        most = largest_machine("GPU")
        if asked > most:
            there = f"the machine with the most has {most:g}" if most else "no machine of the cluster has any"
            raise ConfigError(f"stages.{stage.name}.run.gpus", f"{asked:g} GPUs a worker were asked for; {there}")

    def run_solo(self, stage: Solo) -> None:
        # In a task, so that the driver's memory does not grow with the table.
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_run_solo)
        _unpack(ray.get(task.remote(stage, os.getcwd())))

    def run_pool(self, stage: Pooled, on_fragment: OnFragment) -> None:
        partitions = stage.unfinished()
        if partitions:
            self._work(stage, partitions, on_fragment)
        _unpack(ray.get(ray.remote(num_cpus=1)(_settle).remote(stage, os.getcwd())))

    def _work(self, stage: Pooled, partitions: list[Partition], on_fragment: OnFragment) -> None:
        pool = self._pool(stage)
        workers = min(pool.workers, len(partitions))
        rows = [{"partition": json.dumps([p.index, list(p.fragments), p.rows])} for p in partitions]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            fn_constructor_args=(stage, workers, _on_one_machine(pool, workers), os.getcwd()),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                size=workers,
                max_tasks_in_flight_per_actor=stage.in_flight,
                max_concurrent_calls_per_actor=stage.in_flight,
            ),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            max_task_retries=RETRIES,
        )
        try:
            for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
                for text in batch["result"]:
                    result = json.loads(text)
                    _unpack(result)
                    counts = Counts(**result["fragment"].pop("counts"))
                    on_fragment(Fragment(**result["fragment"], counts=counts))
        except ray.exceptions.RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise RunError(f"stage {stage.name}: a worker could not start: {_last_line(error)}") from error
            raise RunError(f"stage {stage.name}: one partition killed its worker {RETRIES + 1} times") from error

    def _pool(self, stage: Pooled) -> Pool:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return stage.pool(resources.get("CPU", 1.0), resources.get("GPU", 0.0))

    def close(self) -> None:
        self._session.close()


class _Worker:
    """An actor of the pool."""

    def __init__(self, stage: Pooled, workers: int, here: int, folder: str) -> None:
        self._stage = stage
        self._error: dict[str, str] | None = None
        try:
            _enter(stage, folder)
            stage.setup(workers, here)
        except CurationError as error:
            self._error = _pack(error)
        # A Ray worker holds very many objects that stay: keep the collector from walking them again and again.
        gc.collect()
        gc.freeze()

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[str]]]:
        for text in batch["partition"]:
            if self._error:
                yield {"result": [json.dumps(self._error)]}
                return
            index, fragments, rows = json.loads(text)
            try:
                async for fragment in self._stage.work(Partition(index, tuple(fragments), rows)):
                    yield {"result": [json.dumps({"fragment": asdict(fragment)})]}
            except CurationError as error:
                yield {"result": [json.dumps(_pack(error))]}
                return


def _on_one_machine(pool: Pool, workers: int) -> int:
    """Most of a pool's workers that one machine of the cluster can hold."""
    resource, each = ("GPU", pool.gpus) if pool.gpus else ("CPU", pool.cpus)
    return max(1, min(workers, int(largest_machine(resource) / each + 1e-6)))


def _enter(stage: Stage, folder: str) -> None:
    """Work in the caller's folder, if this machine has it: paths of lists and models may be relative. It must have it
    where the output is. Raises ConfigError."""
    output = stage.folder.local
    if os.path.isdir(folder) or (output is not None and not output.is_absolute()):
        enter(folder)


def _last_line(error: Exception) -> str:
    """What went wrong, below Ray's account of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _run_solo(stage: Solo, folder: str) -> dict[str, str]:
    try:
        _enter(stage, folder)
        stage.run()
    except CurationError as error:
        return _pack(error)
    return {}


def _settle(stage: Pooled, folder: str) -> dict[str, str]:
    try:
        _enter(stage, folder)
        stage.settle()
    except CurationError as error:
        return _pack(error)
    return {}


def _pack(error: CurationError) -> dict[str, str]:
    """An expected error as a value: Ray would wrap it in a traceback, and retry what cannot succeed."""
    if isinstance(error, ConfigError):
        return {"path": error.path, "problem": error.problem}
    return {"error": str(error)}


def _unpack(result: dict[str, Any]) -> None:
    if "problem" in result:
        raise ConfigError(result["path"], result["problem"])
    if "error" in result:
        raise RunError(result["error"])
