"""Functions in processes of their own, which can be killed and exit: forks of one that has imported what takes long."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["curation.load", "pipelines.curate", "tests.forks", "tests.toys", "typer", "yaml"])


def forked(function: Callable[..., object], *given: Any, cwd: Path | str = ".") -> tuple[int, str, str]:
    """`function(*given)` in a process of its own: its exit code as `subprocess` has it, stdout, stderr."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKS.Process(target=_begin, args=(function, given, cwd, dict(os.environ), out, err))
        process.start()
        process.join(timeout=240)
        process.kill()
        process.join()
        assert process.exitcode is not None
        return process.exitcode, out.read_text(), err.read_text()


def _begin(
    function: Callable[..., object], given: Any, cwd: Path | str, environment: Mapping[str, str], out: Path, err: Path
) -> None:
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    function(*given)
