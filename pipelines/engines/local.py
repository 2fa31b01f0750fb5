"""The reference engine: the same stages in one process, a plain loop over partitions.

What it does defines what a pipeline means; `on_ray.py` must end with the same rows.
"""

from __future__ import annotations

import asyncio

from curation.models import device_and_dtype
from curation.stage import Partition, Pooled, Solo
from pipelines.engines import OnFragment


class LocalEngine:
    """Runs everything here, `in_flight` partitions at a time."""

    name = "local"

    def check(self, stage: Pooled) -> None:
        if gpus := stage.pool(1, 1).gpus:
            device_and_dtype(gpus, f"stages.{stage.name}.run.gpus")

    def run_solo(self, stage: Solo) -> None:
        stage.run()

    def run_pool(self, stage: Pooled, on_fragment: OnFragment) -> None:
        partitions = stage.unfinished()
        if partitions:
            asyncio.run(_work(stage, partitions, on_fragment))
        stage.settle()

    def close(self) -> None:
        """Nothing was started."""


async def _work(stage: Pooled, partitions: list[Partition], on_fragment: OnFragment) -> None:
    waiting = iter(partitions)

    async def worker() -> None:
        for partition in waiting:
            async for fragment in stage.work(partition):
                on_fragment(fragment)

    stage.setup(workers=1)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(stage.in_flight):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        stage.close()
