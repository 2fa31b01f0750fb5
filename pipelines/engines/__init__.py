"""Where stages run: in this process (`local.py`, the reference meaning) or on Ray (`on_ray.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from curation.fragments import Fragment
from curation.stage import Pooled, Solo

OnFragment = Callable[[Fragment], None]
"""Told of each fragment once it is committed."""


class Engine(Protocol):
    """Runs stages one after the other."""

    name: str

    def check(self, stage: Pooled) -> None:
        """Refuse a pool whose workers could never start: no GPU where one is asked for. Raises ConfigError."""

    def run_solo(self, stage: Solo) -> None:
        """Do the stage's one piece of work; its manifest is written when this returns."""

    def run_pool(self, stage: Pooled, on_fragment: OnFragment) -> None:
        """Do what is left of a pooled stage and settle it; its manifest is written when this returns."""

    def close(self) -> None:
        """Give back what the engine started."""


def make_engine(name: str, address: str | None = None) -> Engine:
    """The engine called `name`: `local`, or `ray` on the cluster at `address` (on this machine if None)."""
    if name == "local":
        from pipelines.engines.local import LocalEngine

        return LocalEngine()
    from pipelines.engines.on_ray import RayEngine

    return RayEngine(address)
