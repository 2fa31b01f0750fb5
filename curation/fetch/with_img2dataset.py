"""Fetch engine `img2dataset`: that library's downloader and resizer behind the same contract, rules and ledger.

`curation.fetch.stage` makes it for `engine: img2dataset`. Each try is one call of the library's
`download_image_with_retry` in a thread; its error strings become reasons; its `Resizer`, with the sides as they are,
judges and re-encodes in the disposable child, right before our image check. Retries, politeness, held images and
hashes are those of the async engine.

The library knows no guard, no byte cap and no wall deadline. It goes through `urllib`'s global opener, so
`urlopener.py` puts them there. What stays: a connection for each request, whole files before any look at them, and
name look-ups that cannot be interrupted (they hold a thread until the system's resolver gives up).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from curation.config import FetchSettings
from curation.errors import ConfigError
from curation.fetch.answer import agent_token, judge_status
from curation.fetch.fetched import Traffic
from curation.fetch.guard import Guard
from curation.fetch.http import Answer, Getter, Watch
from curation.fetch.operator import Fetch
from curation.fetch.urlopener import TOO_LARGE, Job, close_opener, open_through
from curation.image.decoder import Decoder
from curation.image.pool import DecoderPool
from curation.row import Reason, Verdict

SETTING = "stages.fetch.engine"

_LABEL = "label empty or too long|label too long"
# What `str()` of urllib's, http.client's and ssl's errors looks like; the first match counts.
_FAULTS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"^Use of image disallowed by X-Robots-Tag", Reason.OPT_OUT),
        (rf"^{TOO_LARGE}", Reason.TOO_MANY_BYTES),
        (r"is not public|in disguise|is not one of the web's", Reason.BLOCKED_ADDRESS),
        (r"Redirection to url '.*' is not allowed|unknown url type", Reason.BLOCKED_SCHEME),
        (r"timed out", Reason.TIMEOUT),
        (rf"\[Errno -\d+\]|{_LABEL}", Reason.DNS_ERROR),
        (r"SSL|certificate", Reason.TLS_ERROR),
        (r"reset by peer|Remote end closed connection|IncompleteRead|Broken pipe", Reason.CONNECTION_LOST),
        (r"^<urlopen error \[Errno \d+\]", Reason.CONNECT_ERROR),
        (r"no host given|nonnumeric port|control characters", Reason.INVALID_URL),
    )
)
_NO_SUCH_NAME = re.compile(rf"\[Errno ({int(socket.EAI_NONAME)}|{int(socket.EAI_NODATA)})\]|{_LABEL}")
_STATUS = re.compile(r"HTTP Error (\d+)")


def explain(error: str) -> Verdict:
    """The verdict for an error string of the library's downloader."""
    detail = " ".join(error.split()) or "an answer that is no HTTP"
    for pattern, reason in _FAULTS:
        if pattern.search(error):
            return Verdict(reason, detail)
    status = _STATUS.match(error)
    return (status and judge_status(int(status[1]))) or Verdict(Reason.PROTOCOL_ERROR, detail)


class ResizingDecoder(Decoder):
    """A decoder whose child lets the library's resizer have the file first."""

    child_module = "curation.fetch.resizer_child"


class LibraryHttp:
    """`curation.fetch.http.Http`, with the library's downloader in the place of aiohttp."""

    def __init__(self, settings: FetchSettings, threads: int) -> None:
        self._settings = settings
        self._download = import_library().download_image_with_retry
        self._opt_outs = frozenset(d.strip().lower() for d in settings.opt_out_headers)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="img2dataset")
        open_through(Guard(settings.allow_networks), settings.user_agent, settings.max_redirects)

    async def get(
        self, url: str, traffic: Traffic, *, timeout_s: float, cap: int, watch: Watch | None = None
    ) -> Answer:
        """As `Http.get`; redirects are followed inside, and `watch` sees nothing before the whole file is there."""
        job = Job(cap)
        traffic.retry_after_s, traffic.hopeless = None, False
        try:
            async with asyncio.timeout(timeout_s):
                error, data = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._run, job, url, timeout_s
                )
        except TimeoutError:
            job.stop()
            error, data = f"timed out after {timeout_s:g} s", None
        except asyncio.CancelledError:
            job.stop()
            raise
        finally:
            job.book(traffic)
        if data is None:
            traffic.hopeless = bool(_NO_SUCH_NAME.search(error))
            return explain(error)
        if watch is not None:
            watch.prefix(data)  # for the row's columns; to judge is the resizer's part
        return data or Verdict(Reason.EMPTY_BODY, f"HTTP status {traffic.status} with no body")

    def _run(self, job: Job, url: str, timeout_s: float) -> tuple[str, bytes | None]:
        with job:
            _, stream, error = self._download(
                (0, url),
                timeout=min(timeout_s, self._settings.timeout_s),
                retries=0,  # crawl.py tries again: later, and never after a 404
                user_agent_token=agent_token(self._settings.user_agent),
                disallowed_header_directives=self._opt_outs,
            )
        return error or "", None if stream is None else stream.getvalue()

    def let_go(self, traffic: Traffic) -> None:
        """Nothing is held: there are no permits for large bodies here."""

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        close_opener()


class FetchWithImg2dataset(Fetch):
    """As `Fetch`, on the library's downloader and resizer. Raises ConfigError where the library cannot run."""

    def __init__(self, settings: FetchSettings, *, concurrency: int, per_host: int, decoders: int) -> None:
        import_library()
        super().__init__(settings, concurrency=concurrency, per_host=per_host, decoders=decoders)

    def _make_pool(self) -> DecoderPool:
        return DecoderPool(self._settings, self._decoders, ResizingDecoder)

    def _make_http(self) -> Getter:
        return LibraryHttp(self._settings, self._concurrency)


def import_library() -> Any:
    """The module `img2dataset.downloader`. Raises ConfigError where it cannot be had."""
    if sys.version_info >= (3, 13):
        raise ConfigError(SETTING, "img2dataset needs Python < 3.13 (it imports imghdr); use the engine `async`")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise importing it asks the network for a newer version
    try:
        return importlib.import_module("img2dataset.downloader")
    except ImportError as error:
        raise ConfigError(SETTING, f"img2dataset cannot be imported ({error}); use the engine `async`") from None
