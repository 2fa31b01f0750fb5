"""How tests ask an endpoint: settings, requests, and one call."""

from __future__ import annotations

import asyncio
from typing import Any

from PIL import Image

from curation.caption.backend import Backend, Reply, Request
from curation.caption.with_openai import OpenAIBackend
from curation.config import CaptionSettings
from curation.scenes.render import render
from curation.scenes.scene import random_scene

VARIABLE = "CAPTION_KEY"
"""Holds the key."""


def backend(endpoint: str, *, model: str = "tiny", workers: int = 1, **run: Any) -> OpenAIBackend:
    """One of `workers`, ready to write."""
    settings = CaptionSettings(
        backend="openai",
        endpoint=endpoint,
        model=model,
        api_key_env=VARIABLE,
        run={"retries": 2, "timeout_s": 20, "concurrency": 4, **run},
    )
    made = OpenAIBackend(settings, first_wait_s=0.01)
    made.setup(workers)
    return made


def request(number: int = 0, shape: tuple[int, int] | None = None, **more: Any) -> Request:
    """With a picture where `shape` (width, height) is given."""
    image = Image.fromarray(render(random_scene(("llava", number)), *shape, seed=number)) if shape else None
    return Request(f"{number:032x}", more.pop("prompt", "Say something."), image, more.pop("max_tokens", 40), **more)


def written(backend: Backend, *requests: Request) -> list[Reply]:
    """What it writes, in an event loop of its own; connections are closed."""

    async def write() -> list[Reply]:
        try:
            return await backend.write(requests or [request()])
        finally:
            if isinstance(backend, OpenAIBackend):
                backend.close()

    return asyncio.run(write())
