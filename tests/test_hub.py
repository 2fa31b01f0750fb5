"""What the hub does not have is a wrong setting; that it is away is not."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from curation.errors import ConfigError, StorageError
from curation.hub import is_away, load_fault

CODE = """
from curation import hub
from curation.errors import CurationError
hub.WAITS_S = (0.01, 0.01)
try:
    print(hub.fetch_file("where", "org/model", "config.json", None).read_text())
except CurationError as error:
    print(type(error).__name__, str(error)[:70])
"""


@contextmanager
def hub(answers: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Its address, and what it has answered: each status of `answers` in turn, the last for ever."""
    given: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            status = answers[min(len(given), len(answers) - 1)]
            given.append(status)
            body = b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"1"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD

        def log_message(self, *arguments: object) -> None:
            """Not to the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", given
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answers", "offline", "told"),
    [
        ([503, 429, 200], "0", "{}"),
        ([503], "0", "StorageError where: org/model is neither"),
        ([404], "0", "ConfigError where: org/model is neither"),
        ([401], "0", "ConfigError where: org/model is neither"),
        ([200], "1", "ConfigError where: org/model is neither"),
    ],
)
def test_a_hub_that_is_away_is_asked_again(answers: list[int], offline: str, told: str, tmp_path: Path) -> None:
    with hub(answers) as (address, given):
        place = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline}
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=os.environ | place, capture_output=True, text=True, timeout=60
        )
    assert done.stdout.startswith(told), done.stderr
    assert len(given) >= (3 if answers[0] == 503 else 0)


def test_what_an_error_came_of_counts() -> None:
    error = ValueError("cannot load")
    assert not is_away(error)
    error.__context__ = ConnectionRefusedError("refused")
    assert isinstance(load_fault("a.b", "gone", error), StorageError)
    damaged = load_fault("a.b", "damaged", json.JSONDecodeError("no", "", 0))
    assert isinstance(damaged, ConfigError)
    assert damaged.path == "a.b"
