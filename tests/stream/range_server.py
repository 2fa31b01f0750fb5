"""A web server on loopback that answers ranges of a folder's files, counts what it sends, and can stall or fail."""

from __future__ import annotations

import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType


class RangeServer:
    """`url` serves `folder`; `stalls` and `failures` say how many of the next tar ranges never come, or answer 500.
    Without `ranges` it gives whole files, as many plain web servers do."""

    def __init__(self, folder: Path) -> None:
        self.sent: Counter[str] = Counter()
        self.stalls = self.failures = 0
        self.ranges = True
        self._over = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                path = folder / self.path.lstrip("/")
                if not path.is_file():
                    return self._send(404, b"")
                data = path.read_bytes()
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                if body and path.suffix == ".tar":
                    if owner.stalls > 0:
                        owner.stalls -= 1
                        owner._over.wait(30)
                        return None
                    if owner.failures > 0:
                        owner.failures -= 1
                        return self._send(500, b"")
                if not asked or not owner.ranges:
                    return self._send(200, data, body)
                first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
                owner.sent[path.name] += last + 1 - first
                return self._send(206, data[first : last + 1], body, f"bytes {first}-{last}/{len(data)}")

            def _send(self, status: int, data: bytes, body: bool = True, place: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Accept-Ranges", "bytes")
                if place:
                    self.send_header("Content-Range", place)
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Tests are silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RangeServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
