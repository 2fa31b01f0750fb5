"""Ray for a command: a cluster of our own on this machine, or the one at an address."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from curation.errors import ConfigError
from curation.text import first_line


def join_cluster(address: str | None, **own: Any) -> None:
    """Start Ray, or join the cluster at `address`; `own` are options of a cluster of our own.

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
            **({} if address else {"include_dashboard": False, **own}),
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
