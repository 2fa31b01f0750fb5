"""Ray for a command: a cluster of our own on this machine, or the one at an address."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from curation.errors import ConfigError
from curation.text import first_line

OBJECT_STORE_BYTES = 128 * 1024 * 1024
"""On a cluster of our own: what travels are names."""
NO_GPU = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
"""Who asks for no GPU sees none. Ray 2.60 leaves them all to it otherwise, and any number of trainings to one."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Ray for this block: the caller's, if he has it already, which then stays; else as by `join_cluster`."""
    own = not ray.is_initialized()
    if own:
        join_cluster(address)
    try:
        yield
    finally:
        if own:
            ray.shutdown()


def join_cluster(address: str | None, **own: Any) -> None:
    """Start Ray, or join the cluster at `address`; `own` are further options of a cluster of our own.

    Never one that merely happens to run on this machine, which Ray would take by itself. Signals stay with whoever had
    them. Raises ConfigError where there is no cluster.
    """
    if address is not None:
        _check_reachable(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({"runtime_env": {"env_vars": NO_GPU}} if address else _own_options(own)),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        # Ray says no more of a token that is wanted and not sent than that it failed to connect.
        hint = (
            "; one that wants a token is joined with RAY_AUTH_MODE=token" if "RAY_AUTH_MODE" not in os.environ else ""
        )
        raise ConfigError("--address", f"no Ray cluster at {address!r}: {first_line(error)}{hint}") from None
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray puts its own in their place
            signal.signal(number, handler)


def _own_options(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in NO_GPU.items():
        os.environ.setdefault(name, value)  # which its workers inherit
    return {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES, **given}


def largest_machine(resource: str) -> float:
    """The most of `resource` ("CPU", "GPU") that a machine of the cluster has; a task cannot be spread over several."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return max((float(node["Resources"].get(resource, 0)) for node in nodes), default=0.0)


def enter(folder: str) -> None:
    """Work in `folder`, so that relative paths mean to a worker what they mean to the caller. Raises ConfigError where
    this machine has no such folder."""
    if not os.path.isdir(folder):
        raise ConfigError("--address", f"{os.uname().nodename} has no folder {folder}: start from one that all share")
    os.chdir(folder)


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would try for minutes. Raises ConfigError."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", or something that Ray will explain
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError("--address", f"no Ray cluster at {address!r}: {error}") from None
