"""A web server with any number of small pictures: enough rows for several partitions, at next to no cost."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def _picture(seed: int) -> bytes:
    """A JPEG of 192x144 pixels with coarse structure."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((192, 144), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


@contextmanager
def small_origin(rows: int, listed: Path) -> Iterator[list[str]]:
    """Serve `rows` pictures, every tenth of them missing; the list goes to `listed`. Yields the paths asked for."""
    pictures = [_picture(seed) for seed in range(40)]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            number = int(self.path.strip("/").removesuffix(".jpg"))
            missing = number % 10 == 9
            body = b"" if missing else pictures[number % len(pictures)]
            self.send_response(404 if missing else 200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients are killed here: a lost connection is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    urls = [f"http://127.0.0.1:{server.server_port}/{n}.jpg" for n in range(rows)]
    pq.write_table(pa.table({"URL": urls, "TEXT": [f"picture {n}" for n in range(rows)]}), listed)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
