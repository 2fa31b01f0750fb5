"""A worker's event loop at work: which row goes next, its redirects and retries, and its image check.

`operator.py` submits batches of rows and takes finished ones out. Nothing here waits in a slot for a host: rows wait in
`Hosts`, and a task exists only for rows that are being worked on.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from functools import partial

from curation.config import FetchSettings
from curation.fetch.answer import Redirect
from curation.fetch.batch import Batch
from curation.fetch.fetched import Fetched, storable
from curation.fetch.held import Held
from curation.fetch.hosts import Hosts, backoff_s, host_of
from curation.fetch.http import Answer, Getter
from curation.fetch.robots import Refusal, Robots
from curation.fetch.rules import FileRules, ImageWatch
from curation.image.pool import DecoderPool
from curation.names import normalise_url
from curation.row import Reason, Verdict

PENDING_BYTES = 64_000_000
"""No new row is started while finished images of this size wait to be taken."""
HASH_INLINE_BYTES = 1_000_000
"""Larger bodies are hashed in a thread, so that the event loop goes on."""

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")
_CONNECTION_FAULTS = frozenset(
    [Reason.DNS_ERROR, Reason.CONNECT_ERROR, Reason.TLS_ERROR, Reason.CONNECTION_LOST, Reason.TIMEOUT]
)


class Crawl:
    """Limits, connections and queues of one worker; make it inside the event loop that will use it."""

    def __init__(
        self, settings: FetchSettings, concurrency: int, per_host: int, pool: DecoderPool, http: Getter
    ) -> None:
        self._settings = settings
        self._concurrency = concurrency
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._rules = FileRules(settings)
        self._http = http
        self._held = Held(settings.max_bytes)
        self._hosts = Hosts(per_host, settings.host_failures, self._loop.time)
        self._robots = Robots(self._http, settings) if settings.robots_txt else None
        self._running = 0
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Close all connections. No batch may be under way."""
        if self._timer is not None:
            self._timer.cancel()
        self._held.close()
        await self._http.close()

    # -- batches -------------------------------------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Start on the rows of `batch`."""
        for row in batch.make():
            fault = self._set_out(row)
            if fault is not None:
                self._finish(row, fault)
            elif not self._hosts.add(row):
                self._finish(row, _put_aside(row))
        self._pump()

    async def withdraw(self, batch: Batch) -> None:
        """Stop all work on `batch`; nobody will take its rows any more."""
        self._hosts.discard(lambda row: row.batch is batch)
        tasks = list(batch.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.hand_over(batch.abandon())

    def hand_over(self, rows: list[Fetched]) -> None:
        """Finished `rows` left: their memory is somebody else's now."""
        self._pending_bytes -= sum(row.stored_bytes for row in rows)
        self._pump()

    # -- which row goes next -------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start as many rows as limits allow."""
        while self._running < self._concurrency and self._pending_bytes < PENDING_BYTES:
            row = self._hosts.take()
            if row is None:
                break
            self._running += 1
            task = self._loop.create_task(self._work(row))
            row.batch.tasks.add(task)
            task.add_done_callback(partial(self._done, row.batch))
        self._set_timer()

    def _set_timer(self) -> None:
        due = self._hosts.due()
        if self._timer is not None:
            if due is not None and self._timer.when() <= due and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._pump()

    def _done(self, batch: Batch, task: asyncio.Task[None]) -> None:
        self._running -= 1
        batch.tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            batch.fail(bug)
        self._pump()

    # -- one row -------------------------------------------------------------------------------------------------------

    def _set_out(self, row: Fetched) -> Verdict | None:
        """Make `row` ready for a try from its own URL; a verdict if there is nothing to ask."""
        row.seen.clear()
        row.spent_s = 0.0
        if row.held is not None:
            row.host = ""
            return None
        if row.url is None:
            return Verdict(Reason.INVALID_URL, "neither a URL nor a held image")
        url = normalise_url(row.url)
        scheme = _SCHEME.match(row.url)
        if scheme and scheme[1].lower() not in ("http", "https"):
            return Verdict(Reason.BLOCKED_SCHEME, f"{scheme[1][:50]}: is not fetched")
        if url is None:
            return Verdict(Reason.INVALID_URL, row.url[:200])
        row.at = url
        row.host = host_of(url)
        return None

    async def _work(self, row: Fetched) -> None:
        """Take `row` as far as it gets without waiting: to its end, to another host, or to a later try."""
        try:
            answer: Answer = await (self._ask(row) if row.held is None else self._take_held(row))
            if isinstance(answer, Redirect):
                if not self._hosts.add(row):
                    self._finish(row, _put_aside(row))
            elif isinstance(answer, Verdict):
                self._retry_or_finish(row, answer)
            else:
                self._finish(row, await self._check(row, answer))
        finally:
            self._http.let_go(row)

    async def _take_held(self, row: Fetched) -> bytes | Verdict:
        assert row.held is not None
        row.tries = 1
        try:
            data = await self._held.read(*row.held)
        finally:
            self._hosts.release(row.host)
        return (ImageWatch(self._rules, row).whole(data) or data) if isinstance(data, bytes) else data

    async def _ask(self, row: Fetched) -> Answer:
        """Requests to `row.host` until something else has to happen. Gives the host's slot back."""
        host = row.host
        try:
            while True:
                if not row.seen:
                    row.tries += 1
                row.seen.add(row.at)
                answer = await self._get(row)
                if isinstance(answer, Refusal):
                    if answer.asked:
                        self._judge_host(host, row, answer.verdict)
                    return answer.verdict
                self._judge_host(host, row, answer)
                if not isinstance(answer, Redirect):
                    return answer
                if answer.url in row.seen:
                    return Verdict(Reason.BAD_REDIRECT, f"a loop through {answer.url[:200]}")
                if len(row.seen) > self._settings.max_redirects:
                    return Verdict(Reason.BAD_REDIRECT, f"more than {self._settings.max_redirects} redirects")
                row.at = answer.url
                row.host = host_of(answer.url)
                if row.host != host:
                    return answer
        finally:
            self._hosts.release(host)

    async def _get(self, row: Fetched) -> Answer | Refusal:
        began = self._loop.time()
        left = self._settings.timeout_s - row.spent_s
        try:
            if self._robots is not None:
                refusal = await self._robots.refusal(row.at, left)
                if refusal is not None:
                    return refusal
                left -= self._loop.time() - began
            row.final_url = row.at
            return await self._http.get(
                row.at,
                row,
                timeout_s=max(left, 0.001),
                cap=self._settings.max_bytes,
                watch=ImageWatch(self._rules, row),
            )
        finally:
            took = self._loop.time() - began
            row.spent_s += took
            row.elapsed_s += took

    def _judge_host(self, host: str, row: Fetched, answer: Answer) -> None:
        reason = answer.reason if isinstance(answer, Verdict) else None
        rows: list[Fetched] = []
        if reason in _CONNECTION_FAULTS:
            rows = self._hosts.failed(host)
        elif reason is Reason.HTTP_RATE_LIMITED or (
            reason is Reason.HTTP_SERVER_ERROR and row.retry_after_s is not None
        ):
            rows = self._hosts.wait(host, backoff_s(row.tries) if row.retry_after_s is None else row.retry_after_s)
        elif reason is not Reason.BLOCKED_ADDRESS:
            self._hosts.answered(host)
        for waiting in rows:
            self._finish(waiting, _put_aside(waiting))

    def _retry_or_finish(self, row: Fetched, fault: Verdict) -> None:
        assert fault.reason is not None
        row.fault = fault
        if not fault.reason.transient or row.hopeless or row.tries > self._settings.retries:
            self._finish(row, fault)
            return
        self._set_out(row)
        # A host that named a time holds back all its rows until then; otherwise this row backs off alone.
        delay = 0.0 if row.retry_after_s is not None else backoff_s(row.tries)
        if not self._hosts.add_later(row, delay):
            self._finish(row, _put_aside(row))

    async def _check(self, row: Fetched, data: bytes) -> Verdict:
        """Hashes, then the image check in a disposable child."""
        if (too_few := self._rules.length(len(data))) is not None:
            return too_few
        for name, expected in (("md5", row.expected_md5), ("sha256", row.expected_sha256)):
            if expected is None:
                continue
            work = partial(hashlib.new, name, data, usedforsecurity=False)
            digest = await asyncio.to_thread(work) if len(data) > HASH_INLINE_BYTES else work()
            if digest.hexdigest() != expected.strip().lower():
                return Verdict(Reason.HASH_MISMATCH, f"{name} is {digest.hexdigest()}")
        row.checked = await self._pool.check(data)
        return row.checked.verdict

    def _finish(self, row: Fetched, verdict: Verdict) -> None:
        row.verdict = Verdict(verdict.reason, storable(verdict.detail)) if verdict.detail else verdict
        self._pending_bytes += row.stored_bytes
        row.batch.finish(row)
        if self._pending_bytes >= PENDING_BYTES:
            row.batch.flush()


def _put_aside(row: Fetched) -> Verdict:
    """For a row whose host is not asked any more: its own last fault says more, if it has one."""
    return row.fault or Verdict(Reason.HOST_PUT_ASIDE, f"{row.host} kept failing")
