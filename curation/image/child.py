"""The disposable process that decodes hostile files: `python -m curation.image.child LIMITS`.

Started by `curation.image.decoder.Decoder`, which feeds it files on its standard input: a request is
`protocol.REQUEST` and the file; an answer is `protocol.ANSWER`, JSON, and stored bytes. The first answer, unasked
for, says that the child is ready. It ends when its input does, so it never outlives its parent; Ctrl-C and SIGTERM
are for the parent to act on. Imports neither Ray nor torch, pyarrow or pydantic.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable

import cv2

from curation.image.check import Finding, check, set_up_libraries
from curation.image.protocol import ANSWER, EXIT_MEMORY, PIPE, REQUEST
from curation.image.rules import Limits

_COLUMNS = tuple(f.name for f in dataclasses.fields(Finding))

_SPARE = 64_000_000
"""Bytes of address space that a child must have left for images when it starts."""


def main(look: Callable[[bytes, Limits], tuple[Finding, bytes | None]] = check) -> None:
    """Serve until the input ends; `look` is `check`, or does more before it."""
    limits = Limits(**json.loads(sys.argv[1]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    requests, answers = os.dup(0), os.dup(1)
    set_up_libraries()
    needed = _address_space() + _SPARE
    if needed > limits.memory:
        _send(answers, {"unfit": f"{limits.memory} bytes do not hold the decoder itself; it needs {needed}"}, b"")
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # whatever a C library prints goes nowhere, and blocks nothing
        os.dup2(null, stream)
    gc.collect()
    gc.freeze()
    _send(answers, {"ready": os.getpid()}, b"")
    while (data := _received(requests)) is not None:
        # The timer counts this process's CPU time, and its signal ends even a decoder deep in C.
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
        answer, stored = _answer(look, data, limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(answers, answer, stored)


def _answer(
    look: Callable[[bytes, Limits], tuple[Finding, bytes | None]], data: bytes, limits: Limits
) -> tuple[dict[str, object], bytes]:
    """The fields of a `Finding`, `unchanged` where `data` itself is to be stored, and else the bytes to store."""
    try:
        finding, stored = look(data, limits)
    except Exception as error:
        no_memory = isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem
        if no_memory or isinstance(error, MemoryError):
            os._exit(EXIT_MEMORY)  # what is left may not even do for an answer
        return {"bug": traceback.format_exc()}, b""
    answer: dict[str, object] = {name: getattr(finding, name) for name in _COLUMNS}
    answer["unchanged"] = stored is data
    return answer, b"" if stored is None or stored is data else stored


def _address_space() -> int:
    """Bytes of address space in use (proc_pid_statm(5), first field, pages)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _received(stream: int) -> bytes | None:
    """The next request; None at the end of the input."""
    head = _read(stream, REQUEST.size)
    try:
        return None if head is None else _read(stream, REQUEST.unpack(head)[0])
    except MemoryError:
        os._exit(EXIT_MEMORY)


def _read(stream: int, size: int) -> bytes | None:
    part = os.read(stream, min(size, PIPE))
    if len(part) == size:
        return part
    parts, missing = [part], size - len(part)
    while missing and part:
        part = os.read(stream, min(missing, PIPE))
        parts.append(part)
        missing -= len(part)
    return b"".join(parts) if not missing else None


def _send(stream: int, answer: dict[str, object], stored: bytes) -> None:
    text = json.dumps(answer).encode()
    parts = [ANSWER.pack(len(text), len(stored)) + text, stored]
    for part in parts:
        view = memoryview(part)
        while view:
            try:
                view = view[os.write(stream, view) :]
            except BrokenPipeError:  # the parent is gone
                os._exit(0)


if __name__ == "__main__":
    main()
