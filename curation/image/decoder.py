"""The parent's side of the disposable decoder: one child process, one file at a time, and nothing it does hurts.

`DecoderPool` (curation.image.pool) holds one `Decoder` for each child; packs of images that are already here use a
`Decoder` of their own. A child that dies costs the row that it was working on; the next row gets a new child.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from curation.config import FetchSettings
from curation.errors import ConfigError, RunError
from curation.image.protocol import ANSWER, COLUMNS, EXIT_MEMORY, PIPE, REQUEST, ImageColumns
from curation.image.rules import Limits
from curation.row import KEPT, Reason, Verdict

_START_S = 60.0
"""Seconds that a child may take to start."""

GRACE_S = 10.0
"""Seconds beyond three times its CPU limit after which a child that does not answer is killed."""


@dataclass(slots=True, kw_only=True)
class Checked(ImageColumns):
    """The columns, the verdict, and what to store."""

    verdict: Verdict
    stored: bytes | None = None
    """What belongs into the image bank; of kept images only."""

    def columns(self) -> dict[str, Any]:
        """The fetch columns that the image check fills, by name."""
        return {name: getattr(self, name) for name in COLUMNS}


class Decoder:
    """Checks images in a child process, started with the first one. Blocking; one check at a time."""

    child_module: ClassVar[str] = "curation.image.child"
    """What the child runs; another module may do more before the check (curation.fetch.resizer_child)."""

    def __init__(self, settings: FetchSettings) -> None:
        self._limits = Limits(
            formats=tuple(settings.formats),
            min_side=settings.min_side,
            max_aspect=settings.max_aspect,
            max_pixels=settings.max_pixels,
            cpu_s=settings.decode_cpu_s,
            memory=settings.decode_memory,
        )
        self._answer_s = 3 * settings.decode_cpu_s + GRACE_S
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self.starts = 0
        """Children started so far: one, and another after each death."""

    @property
    def pid(self) -> int | None:
        """Process id of the child; None where none is running."""
        child = self._child
        return child.pid if child and child.returncode is None else None

    def check(self, data: bytes) -> Checked:
        """Check one file.

        Whatever the file does to its decoder becomes the verdict of its row. Raises ConfigError where
        `decode_memory` does not hold a decoder at all, RunError where no child can be started or the decoder was
        closed meanwhile, and RuntimeError with the child's traceback for a bug in the check.
        """
        with self._lock:
            child = self._running_child()
            deadline = time.monotonic() + self._answer_s
            try:
                _write(_stream(child.stdin), REQUEST.pack(len(data)), deadline)
                _write(_stream(child.stdin), data, deadline)
                answer, stored = _read_answer(child, deadline)
            except (OSError, EOFError) as error:
                self._discard(child)
                if self._closed:
                    raise RunError("the image decoder was closed while it was at work") from None
                return Checked(verdict=self._death(child.returncode, isinstance(error, TimeoutError)))
            except BaseException:  # Ctrl-C between two frames: the next check must not read this one's answer
                self._discard(child)
                raise
        if "bug" in answer:
            raise RuntimeError(f"the image check has a bug:\n{answer['bug']}")
        unchanged, reason, detail = answer.pop("unchanged"), answer.pop("reason"), answer.pop("detail")
        if reason is not None:
            return Checked(verdict=Verdict(Reason(reason), detail), **answer)
        return Checked(verdict=KEPT, stored=data if unchanged else stored, **answer)

    def close(self) -> None:
        """End the child at once. A check that another thread has under way raises RunError."""
        self._closed = True
        if child := self._child:
            child.kill()
        with self._lock:
            if child := self._child:
                self._discard(child)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise RunError("the image decoder is closed")
        if self._child is not None and self._child.poll() is not None:  # died between two images: no row's fault
            self._discard(self._child)
        return self._child or self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", self.child_module, json.dumps(asdict(self._limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(),
        )
        for stream in (_stream(child.stdin), _stream(child.stdout)):
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(OSError):  # the user's share of wide pipes is used up: slower, no worse
                fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE)
        try:
            answer, _ = _read_answer(child, time.monotonic() + _START_S)
        except (OSError, EOFError):
            child.kill()
            said = _stream(child.stderr).read().decode(errors="replace").strip()
            self._discard(child)
            if self._closed:
                raise RunError("the image decoder was closed while it started") from None
            last = said.rpartition("\n")[2] or f"exit code {child.returncode}"
            raise RunError(f"the image decoder does not start: {last}") from None
        except BaseException:
            self._discard(child)
            raise
        _stream(child.stderr).close()  # from here on the child writes to /dev/null
        if "unfit" in answer:
            self._discard(child)
            raise ConfigError("stages.fetch.decode_memory", answer["unfit"])
        return child

    def _discard(self, child: subprocess.Popen[bytes]) -> None:
        """End and reap the child, and close its pipes."""
        self._child = None
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()

    def _death(self, code: int, timed_out: bool) -> Verdict:
        if timed_out:
            return Verdict(Reason.DECODER_DIED, f"no answer within {self._answer_s:g} s")
        if code == -signal.SIGPROF:
            return Verdict(Reason.DECODE_CPU_LIMIT, f"over {self._limits.cpu_s:g} s of CPU time")
        if code == EXIT_MEMORY:
            return Verdict(Reason.DECODE_MEMORY_LIMIT, f"over {self._limits.memory} bytes of address space")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Verdict(Reason.DECODER_DIED, how + (", perhaps out of memory" if code == -signal.SIGKILL else ""))


def _environment() -> dict[str, str]:
    """No secrets for a process that parses hostile files: only what Python needs to start, and one thread each."""
    kept = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    paths = [
        str(Path(__file__).resolve().parents[2]),
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    return environment | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # every stream of a child is a pipe
    return stream


def _wait(stream: int, event: int, deadline: float) -> None:
    left = deadline - time.monotonic()
    poll = select.poll()
    poll.register(stream, event)
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


def _write(stream: IO[bytes], data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(stream.fileno(), view) :]
        except BlockingIOError:
            _wait(stream.fileno(), select.POLLOUT, deadline)


def _read(stream: int, size: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    while size:
        try:
            part = os.read(stream, min(size, PIPE))
        except BlockingIOError:
            _wait(stream, select.POLLIN, deadline)
            continue
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_answer(child: subprocess.Popen[bytes], deadline: float) -> tuple[dict[str, Any], bytes]:
    stream = _stream(child.stdout).fileno()
    _wait(stream, select.POLLIN, deadline)
    text_size, stored_size = ANSWER.unpack(_read(stream, ANSWER.size, deadline))
    answer: dict[str, Any] = json.loads(_read(stream, text_size, deadline))
    return answer, _read(stream, stored_size, deadline)
