"""Run by test_guard.py inside a network namespace whose loopback owns 93.184.216.34 and 10.9.8.7.

Serves an image on all addresses, fetches it by many names with the guard as it is shipped, and prints the reasons.
"""

from __future__ import annotations

import json

from tests.fetch.harness import fetch, photo
from tests.fetch.origin import Origin, answer, says

DIRECT = (
    "http://93.184.216.34",
    "http://127.0.0.1",
    "http://10.9.8.7",
    "http://[::1]",
    "http://[::ffff:127.0.0.1]",
    "http://2130706433",
    "http://0x7f.1",
    "http://localhost",
)
REDIRECTED = ("http://127.0.0.1", "http://10.9.8.7")


def main() -> None:
    image = says(answer(photo()))
    with Origin({"/x": image}, host="0.0.0.0") as origin:
        for index, target in enumerate(REDIRECTED):
            origin.routes[f"/{index}"] = says(answer(b"", "302 Found", Location=f"{target}:{origin.port}/x"))
        urls = [f"{target}:{origin.port}/x" for target in DIRECT]
        urls += [f"http://93.184.216.34:{origin.port}/{index}" for index in range(len(REDIRECTED))]
        rows = fetch(urls, allow_networks=())
    names = [*DIRECT, *(f"redirect to {target}" for target in REDIRECTED)]
    print(json.dumps(dict(zip(names, (row["reason"] for row in rows), strict=True))))


if __name__ == "__main__":
    main()
