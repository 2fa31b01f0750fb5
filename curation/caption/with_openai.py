"""Caption with a model behind an endpoint that speaks OpenAI's chat completions: vLLM, SGLang, `transformers serve`.

A request that meets a busy or absent server waits and tries again; one that the server refuses is that row's fault; a
server that answers nobody stops the run, for otherwise every row would be marked failed because of it. The key comes
from the environment of each worker and goes into one header, nowhere else. The caption stage makes this backend
(`curation.caption.stage.make_backend`).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from curation.caption.backend import Backend, Reply, Request
from curation.caption.chat import model_names, read_fault, read_reply, request_body
from curation.config.caption import CaptionSettings
from curation.errors import ConfigError, RunError
from curation.fetch.answer import parse_retry_after
from curation.text import one_line

ANSWER_BYTES = 1_000_000
"""Longest answer that is read."""
LONGEST_WAIT_S = 120.0
"""Between two tries, whatever a server asks for."""
IN_A_ROW = 8
"""So many requests in a row without an answer, after all their tries, and the endpoint counts as away."""
SAID_LETTERS = 300
"""So much of what a server says about an error is passed on."""
CONNECT_S = 10.0
"""Deadline of a connection; that of the whole try is a setting."""
CHECK_S = 20.0
"""Deadline of the look at the endpoint before any work."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True)
class _Fault:
    """Why a try gave no reply."""

    text: str
    away: bool = False
    """The server is busy or not there: worth another try."""
    unreachable: bool = False
    """Not even a connection: never the fault of a row."""
    wait_s: float = 0.0
    """What the server asks for."""


class OpenAIBackend(Backend):
    """Requests to one endpoint, no more at once than this worker's share of `run.concurrency`."""

    def __init__(self, settings: CaptionSettings, first_wait_s: float = 1.0) -> None:
        """`first_wait_s`: seconds before the second try; they double with each try and are shortened by up to half."""
        assert settings.endpoint is not None
        self._settings = settings
        self._endpoint = settings.endpoint.rstrip("/")
        self._first_wait_s = first_wait_s
        self._has_key = bool(_key(settings))
        self._share = settings.run.concurrency
        self._answered = 0
        self._failed_in_a_row = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: asyncio.Task[None] | None = None

    def check(self, online: bool) -> None:
        where = "stages.caption.endpoint"
        try:
            parts = urlsplit(self._endpoint)
            fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ConfigError(where, f"{self._settings.endpoint!r} is no address like http://host:8000/v1")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ConfigError(
                where,
                "is the address alone, without user, password, query or fragment: keys go into "
                f"the environment variable {self._settings.api_key_env}",
            )
        key_setting = "stages.caption.api_key_env"
        if not _VARIABLE.fullmatch(self._settings.api_key_env):
            raise ConfigError(  # without what was given: perhaps it is the key
                key_setting,
                "names the environment variable that holds the key (capitals, digits, _); it is not the key",
            )
        if not _fits_header(_key(self._settings)):
            raise ConfigError(key_setting, self._no_key())
        if online:
            asyncio.run(self._look())

    async def _look(self) -> None:
        """Ask for the list of models. Raises ConfigError."""
        where = "stages.caption.endpoint"
        async with self._open_session(CHECK_S) as session:
            try:
                async with session.get(f"{self._endpoint}/models", allow_redirects=False) as response:
                    status, body = response.status, await _read(response)
            except (aiohttp.ClientError, OSError) as error:
                raise ConfigError(where, f"{self._endpoint} cannot be reached: {_why(error, CHECK_S)}") from None
        if status in (401, 403):
            raise ConfigError("stages.caption.api_key_env", self._refused())
        if status in (502, 503, 504):
            raise ConfigError(where, f"{self._endpoint} is not ready: HTTP {status}")
        # Any other answer shows that somebody is there; not every server has such a list.
        names = model_names(body) if status == 200 and body is not None else []
        model = self._settings.model
        if names and model not in names and not Path(model).is_absolute():  # `transformers serve` lists no paths
            more = ", …" if len(names) > 5 else ""
            raise ConfigError("stages.caption.model", f"the endpoint serves {', '.join(names[:5])}{more}, not {model}")

    def setup(self, workers: int) -> None:
        """Take this worker's share. Raises RunError where the key is set in the driver's environment but not here."""
        if self._has_key and not _key(self._settings):
            raise RunError(
                f"{self._settings.api_key_env} is set where the run was started, but not on this worker's machine"
            )
        if not _fits_header(_key(self._settings)):
            raise RunError(self._no_key())
        self._share = max(1, self._settings.run.concurrency // workers)

    async def write(self, requests: Sequence[Request]) -> list[Reply]:
        self._open()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(request)) for request in requests]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def close(self) -> None:
        """Close connections. Call it from the event loop's own thread, or where none runs."""
        loop, keeper = self._loop, self._keeper
        self._loop = self._keeper = None
        if loop is None or keeper is None or keeper.done() or loop.is_closed():
            return
        keeper.cancel()
        if not loop.is_running():
            loop.run_until_complete(asyncio.wait([keeper]))

    def _open(self) -> None:
        """Connections and slots of the running event loop; they live as long as it does, or until `close`."""
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._keeper is not None and not self._keeper.done():
            return
        self._loop = loop
        self._slots = asyncio.Semaphore(self._share)
        self._session = self._open_session(self._settings.run.timeout_s)
        self._keeper = loop.create_task(_keep(self._session))

    def _open_session(self, timeout_s: float) -> aiohttp.ClientSession:
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if key := _key(self._settings):
            headers["Authorization"] = f"Bearer {key}"
        return aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S),
            connector=aiohttp.TCPConnector(limit=self._share),
            auto_decompress=False,
        )

    async def _ask(self, request: Request) -> Reply:
        async with self._slots:
            body = await asyncio.to_thread(request_body, self._settings.model, request)
            wait_s, left = self._first_wait_s, self._settings.run.retries
            while isinstance(reply := await self._try(body), _Fault):
                if not reply.away or not left:
                    return self._give_up(reply)
                await asyncio.sleep(min(LONGEST_WAIT_S, max(reply.wait_s, wait_s * random.uniform(0.5, 1))))
                wait_s, left = wait_s * 2, left - 1
            self._answered += 1
            self._failed_in_a_row = 0
            return reply

    async def _try(self, body: bytes) -> Reply | _Fault:
        """One POST. Raises RunError where the endpoint will never answer anybody."""
        timeout_s = self._settings.run.timeout_s
        try:
            async with self._session.post(
                f"{self._endpoint}/chat/completions", data=body, allow_redirects=False
            ) as response:
                status, headers, answer = response.status, response.headers, await _read(response)
        except (aiohttp.ClientError, OSError) as error:
            unreachable = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            return _Fault(_why(error, timeout_s), away=True, unreachable=unreachable)
        if status in (401, 403):
            raise RunError(self._refused())
        if answer is None:
            return _Fault(f"an answer of more than {ANSWER_BYTES:,} bytes")
        if 200 <= status < 300:
            try:
                return read_reply(answer)
            except ValueError as error:
                return _Fault(str(error))
        said = f"HTTP {status}: {self._without_key(read_fault(answer))[:SAID_LETTERS]}".rstrip(": ")
        if 300 <= status < 400 or status in (404, 405):
            raise RunError(f"{self._endpoint} has no chat completions of {self._settings.model}: {said}")
        asked_s = parse_retry_after(headers.get("Retry-After"))
        return _Fault(said, away=status == 429 or status >= 500, wait_s=asked_s or 0.0)

    def _give_up(self, fault: _Fault) -> Reply:
        """A request without an answer, after all its tries: its own fault, or the endpoint's? Then raises RunError."""
        self._failed_in_a_row += 1
        if fault.unreachable:
            raise RunError(f"{self._endpoint} cannot be reached: {fault.text}")
        if self._failed_in_a_row >= IN_A_ROW and (fault.away or not self._answered):
            raise RunError(
                f"{self._endpoint} answered none of {self._failed_in_a_row} requests in a row; the last: {fault.text}"
            )
        return Reply(error=fault.text)

    def _refused(self) -> str:
        variable = self._settings.api_key_env
        if not _key(self._settings):
            return f"{self._endpoint} wants a key: put it into the environment variable {variable}"
        return f"{self._endpoint} refuses the key in {variable}"

    def _no_key(self) -> str:
        return f"{self._settings.api_key_env} holds characters that no key has"

    def _without_key(self, text: str) -> str:
        key = _key(self._settings)
        return text.replace(key, "…") if key else text


def _key(settings: CaptionSettings) -> str:
    """Read where it is used and kept nowhere: objects of this module are pickled, shown and logged."""
    return os.environ.get(settings.api_key_env, "").strip()


def _fits_header(key: str) -> bool:
    return key.isascii() and (key.isprintable() or not key)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None where it is too long."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > ANSWER_BYTES:
            response.close()
            return None
    return bytes(data)


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {min(CONNECT_S, timeout_s):g} s"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return one_line(error)


async def _keep(session: aiohttp.ClientSession) -> None:
    """Wait to be cancelled, by `close` or by the end of `asyncio.run`, then close the connections inside their loop."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await session.close()
