"""The rows of a synthetic run (`make_run`): what each stage without models says of each of them."""

from __future__ import annotations

import random
from typing import Any

from curation.names import make_uid
from curation.row import Reason, Verdict
from tests.report.make_models import good

WORDS = ["a", "red", "house", "by", "the", "sea", "two", "small", "boats", "under", "heavy", "clouds", "at", "dusk"]
BUCKETS = ((640, 960), (704, 896), (768, 768), (896, 704), (960, 640), (1152, 576))

Row = dict[str, Any]


def listed(dice: random.Random, i: int) -> Row:
    host = f"img{min(int(dice.paretovariate(0.9)), 60)}.example.org"
    return {
        "uid": make_uid("default", str(i)),
        "source": "default",
        "url": f"https://{host}/photos/{i:06d}.jpg",
        "alt_text": " ".join(dice.choices(WORDS, k=dice.randrange(0, 26))),
        "pwatermark": dice.betavariate(1.2, 4),
    }


def source(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    judged: list[tuple[Row, Verdict]] = []
    for i, row in enumerate(rows):
        fate = dice.random()
        if fate < 0.05 and i:
            first, _ = dice.choice(judged)
            row, verdict = (
                {**row, "uid": first["uid"], "url": first["url"]},
                Verdict(Reason.DUPLICATE_URL, "not the first"),
            )
        else:
            verdict = Verdict(Reason.INVALID_URL if fate > 0.95 else None)
        judged.append((row, verdict))
    return judged


def fetch(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    failures = [
        (Verdict(Reason.HTTP_NOT_FOUND, "404 Not Found"), 404),
        (Verdict(Reason.HTTP_SERVER_ERROR, "503 three times"), 503),
        (Verdict(Reason.TIMEOUT, "no answer in 30 s"), None),
        (Verdict(Reason.DNS_ERROR, "name does not resolve"), None),
        (Verdict(Reason.TRUNCATED_IMAGE, "ends after 40,000 bytes"), 200),
    ]
    judged = []
    for row in rows:
        row = {**row, "tries": 1, "elapsed_ms": int(dice.lognormvariate(5.2, 1)), "bytes_received": 0}
        if dice.random() < 0.2:
            verdict, status = dice.choices(failures, weights=(6, 2, 2, 3, 1))[0]
            judged.append(({**row, "status": status, "tries": 3 if verdict.reason.transient else 1}, verdict))
            continue
        short = int(min(4000, 180 * 2 ** dice.uniform(0, 4.4)))
        aspect = dice.choice([0.67, 0.75, 1, 1, 1.33, 1.5, 1.5, 1.5, 1.78, 2.6])
        width, height = (round(short * aspect), short) if aspect >= 1 else (short, round(short / aspect))
        size = round(width * height * dice.uniform(0.12, 0.35))
        row |= {"width": width, "height": height, "status": 200, "format": "jpeg", "bytes_received": size}
        if short < 768:
            early = min(size, 40_000)
            row |= {"bytes_received": early, "bytes_saved": size - early if size > early else None}
            judged.append((row, Verdict(Reason.TOO_SMALL, f"{width}x{height}: a side under 768")))
        elif aspect > 2:
            judged.append((row, Verdict(Reason.ASPECT_TOO_EXTREME, f"{width}x{height}: over 2 to 1")))
        else:
            judged.append(({**row, "sharpness": dice.lognormvariate(4.9, 1), "phash": dice.getrandbits(63)}, Verdict()))
    return judged


def select(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    judged: list[tuple[Row, Verdict]] = []
    for row in rows:
        winners = [r for r, verdict in judged if verdict.reason is None]
        if row["sharpness"] < 40 or row["pwatermark"] >= 0.6 or not good(row):
            judged.append((_bare(row), Verdict(Reason.WHERE, "sharpness >= 40 and pwatermark < 0.6")))
        elif winners and dice.random() < 0.12:
            judged.append((_bare(row), Verdict(Reason.NEAR_DUPLICATE, dice.choice(winners)["uid"])))
        else:
            judged.append((row, Verdict()))
    return judged


def _bare(row: Row) -> Row:
    """Rows that select drops carry only their names on."""
    return {name: row[name] for name in ("uid", "source", "url")}


def layout(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    judged = []
    for row in rows:
        aspect = row["width"] / row["height"]
        width, height = min(BUCKETS, key=lambda b: abs(b[0] / b[1] - aspect))
        row = {**row, "bucket": f"{width}x{height}", "shard": "00000"}
        small = row["width"] < width or row["height"] < height
        judged.append((row, Verdict(Reason.SMALLER_THAN_BUCKET, row["bucket"]) if small else Verdict()))
    return judged


def pack(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    return [({**row, "shard": f"{i // 90:05d}"}, Verdict()) for i, row in enumerate(rows)]
