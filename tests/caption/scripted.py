"""A backend of our own interface that says what a script says, for the logic around a model; and rows for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from curation.caption.backend import Backend, Reply, Request
from curation.config import CaptionSettings
from curation.fetch.stage import FetchStage
from curation.select.stage import Select
from curation.stage import Pooled, Solo
from pipelines.curate import make_stages
from pipelines.engines.local import LocalEngine
from tests.journey import config
from tests.small_origin import small_origin

DENSE = "A small red square stands on a plain blue background with soft light from above."
SHORT = "A red square on blue."

Script = Callable[[Request], Reply | str]


class Scripted(Backend):
    """Answers by `script`; keeps what it was asked, and how many requests it had at once."""

    def __init__(self, script: Script, delay: Callable[[Request], float] | None = None) -> None:
        self.script = script
        self.delay = delay
        self.asked: list[list[Request]] = []
        self.at_once = self.most_at_once = 0
        self.closed = False

    @property
    def requests(self) -> list[Request]:
        return [request for requests in self.asked for request in requests]

    def setup(self, workers: int) -> None:
        self.workers = workers

    async def write(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked.append(list(requests))
        self.at_once += len(requests)
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(max(map(self.delay, requests)) if self.delay else 0)
        self.at_once -= len(requests)
        answers = [self.script(request) for request in requests]
        return [Reply(a, tokens=len(a.split())) if isinstance(a, str) else a for a in answers]

    def close(self) -> None:
        self.closed = True


def good(request: Request) -> str:
    """What a good model says."""
    return SHORT if request.image is None else DENSE


def settings(tokenizer: Path, **given: Any) -> CaptionSettings:
    """Small limits; a model that only `Scripted` knows."""
    return CaptionSettings.model_validate(
        {"model": "scripted", "tokenizer": str(tokenizer), "words": {"dense": (5, 60)}, **given}
    )


def grey(side: int = 40) -> Image.Image:
    return Image.new("RGB", (side, side), "grey")


@contextmanager
def selected(rows: int, folder: Path) -> Iterator[tuple[Select, FetchStage]]:
    """A finished journey up to select: nine of ten `rows` are kept."""
    with small_origin(rows, folder / "list.parquet"):
        stages = {"fetch": {"min_side": 64}, "select": {"dedup": {"exact": "none", "phash": None}}}
        journey = make_stages(config(folder / "list.parquet", folder / "out", **stages))
        engine = LocalEngine()
        for stage in journey[:3]:
            if isinstance(stage, Pooled):
                engine.run_pool(stage, lambda fragment: None)
            elif isinstance(stage, Solo):
                engine.run_solo(stage)
    _, fetch, select, *_ = journey
    assert isinstance(select, Select)
    assert isinstance(fetch, FetchStage)
    yield select, fetch
