"""A run with only the stages under test on Ray: `run(config, **on_ray(ray_engine, "encode"))`."""

from __future__ import annotations

from typing import Any

from curation.stage import Pooled, Solo, Stage
from pipelines.engines import Engine, OnFragment, make_engine


def on_ray(ray: Engine, *stages: str) -> dict[str, Any]:
    """What `pipelines.curate.run` is given for `stages` on the session's Ray; for all of them if none is named."""
    return {"engine": "ray", "make": lambda name, address: _Partly(ray, stages)}


class _Partly:
    """Runs `stages` on Ray, which stays for other tests, and the others here."""

    name = "ray"

    def __init__(self, ray: Engine, stages: tuple[str, ...]) -> None:
        self._ray = ray
        self._local = make_engine("local")
        self._stages = stages

    def _of(self, stage: Stage) -> Engine:
        return self._ray if not self._stages or stage.name in self._stages else self._local

    def check(self, stage: Pooled) -> None:
        self._of(stage).check(stage)

    def run_solo(self, stage: Solo) -> None:
        self._of(stage).run_solo(stage)

    def run_pool(self, stage: Pooled, on_fragment: OnFragment) -> None:
        self._of(stage).run_pool(stage, on_fragment)

    def close(self) -> None:
        """The session goes on."""
