"""Endpoints for chat completions on loopback: `transformers serve` with a real model, and an origin that answers by a
script, for faults that a real server shows only on bad days."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def transformers_serve(model: Path, home: Path) -> Iterator[str]:
    """Address of a `transformers serve` for the model in a folder, ready; nothing of it needs a network."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", program, "serve", str(model), "--device", "cpu", "--dtype", "float32"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with open(home / "log.txt", "wb") as log:
        place = ["--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen([*command, *place], env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not _healthy(f"http://127.0.0.1:{port}/health"):
                assert server.poll() is None, (home / "log.txt").read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.wait()


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


class Origin:
    """What was asked of it."""

    def __init__(self, answers: Sequence[Answer], models: Answer | None) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        """Seconds, of `time.monotonic`."""
        self.at_once = self.most_at_once = 0
        self._answers = list(answers)
        self._models = models

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.times.append(time.monotonic())
        self.headers.append(dict(request.headers))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.bodies.append(await request.json())
            answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
            return await answer(request)
        finally:
            self.at_once -= 1

    async def models(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        return await self._models(request) if self._models else web.Response(status=404)


@contextmanager
def chat_origin(*answers: Answer, models: Answer | None = None) -> Iterator[Origin]:
    """An endpoint in a thread of its own: it gives each request the next of `answers`, the last one for ever."""
    origin = Origin(answers, models)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=50_000_000)
        app.router.add_post("/v1/chat/completions", origin.chat)
        app.router.add_get("/v1/models", origin.models)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        origin.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield origin
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def says(text: Any = "A red square.", *, finish: Any = "stop", tokens: Any = 5, **more: Any) -> Answer:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return gives(200, {"choices": [choice], "usage": {"completion_tokens": tokens}, **more})


def gives(status: int, body: Any = None, **headers: str) -> Answer:
    """Any answer: JSON, or bytes as they are."""

    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            return web.Response(status=status, body=body, headers=named)
        return web.json_response(body, status=status, headers=named)

    return answer


async def hangs(request: web.Request) -> web.StreamResponse:
    """Never says anything."""
    await asyncio.sleep(60)
    return web.Response()


async def drips(request: web.Request) -> web.StreamResponse:
    """Sends a byte now and then."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await response.write(b" ")
        await asyncio.sleep(0.05)
    return response


async def floods(request: web.Request) -> web.StreamResponse:
    """Never stops."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def cuts(request: web.Request) -> web.StreamResponse:
    """Ends the connection in the middle of its answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": ')
    assert request.transport is not None
    request.transport.abort()
    return response
