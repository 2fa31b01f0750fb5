"""A synthetic run's output folder, with real fragments, manifests, image bank and shards; made for tests of the report.

python -m tests.report.make_run FOLDER        # then: curate report FOLDER
"""

from __future__ import annotations

import hashlib
import io
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import pyarrow as pa
from PIL import Image, ImageDraw

from curation.config import Config
from curation.fragments import Counts, Fragment, FragmentWriter, Manifest, outcome_schema, write_manifest
from curation.load import make_config
from curation.pack.shard import shard_path
from curation.report import write_report
from curation.row import (
    FETCH_FIELDS,
    PACK_FIELDS,
    PACKED,
    SOURCE_FIELDS,
    STAYS,
    Reason,
    Verdict,
    make_uid,
    with_outcomes,
)
from curation.run_log import RUN_FILE
from curation.storage import Folder
from curation.tar import TarWriter
from tests.report import make_models
from tests.report.make_models import MODEL_STAGES

JOURNEY = ("source", "fetch", "score", "select", "caption", "layout", "pack")
FOLDERS = {name: f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}" for name in JOURNEY}
KEEP = pa.field("pwatermark", pa.float32())
WORDS = ["a", "red", "house", "by", "the", "sea", "two", "small", "boats", "under", "heavy", "clouds", "at", "dusk"]
BUCKETS = ((640, 960), (704, 896), (768, 768), (896, 704), (960, 640), (1152, 576))

Row = dict[str, Any]
Paint = Callable[[random.Random, int, int], bytes]


@dataclass
class Made:
    """A run that was made: its folder, its config, and the rows of each stage with their verdicts."""

    output: Folder
    config: Config
    journey: tuple[str, ...]
    rows: dict[str, list[tuple[Row, Verdict]]] = field(default_factory=dict)

    def stage(self, name: str) -> Folder:
        return self.output.child(FOLDERS[name])

    def kept(self, name: str) -> list[Row]:
        return [row for row, verdict in self.rows[name] if verdict.reason is None]


def paint(dice: random.Random, width: int, height: int) -> bytes:
    """A JPEG of some coloured shapes, no larger than it must be to look like the size that its row says."""
    picture = Image.new("RGB", (width, height), tuple(dice.randrange(60, 240) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(9):
        x, y, r = dice.uniform(0, width), dice.uniform(0, height), dice.uniform(0.05, 0.3) * min(width, height)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(dice.randrange(256) for _ in range(3)))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return out.getvalue()


def make_run(
    output: Folder,
    *,
    rows: int = 240,
    upto: str = "pack",
    unfinished: bool = False,
    status: str = "done",
    error: str | None = None,
    painter: Paint = paint,
    change: Callable[[Row], None] = lambda row: None,
    change_captioned: Callable[[Row], None] = lambda row: None,
    reject_all: Reason | None = None,
    reject_in: str = "fetch",
    models: bool = False,
    seconds: dict[str, float] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Made:
    """Make a run of `rows` rows as far as the stage `upto`, which stays without a manifest where `unfinished`.

    `change` may edit each source row, `change_captioned` each row of caption; `reject_all` drops every row in
    `reject_in`; `models` adds the stages score and caption; `seconds` replaces those of some stages.
    """
    config = make_config(
        {
            "name": "harbour-lights",
            "output": output.url,
            "source": {"kind": "parquet", "path": "list.parquet", "columns": {"keep": ["pwatermark"]}},
            "stages": {
                "fetch": {"min_side": 768, "max_aspect": 2.0},
                "select": {"where": "sharpness >= 40 and pwatermark < 0.6", "dedup": {"phash": 4}},
                "pack": {"resolution": 768},
                **(make_models.SETTINGS if models else {}),
            },
            **(overrides or {}),
        }
    )
    journey = tuple(name for name in JOURNEY if models or name not in MODEL_STAGES)
    made = Made(output, config, journey)
    steps = {
        "source": _source,
        "fetch": _fetch,
        "score": make_models.score,
        "select": _select,
        "caption": make_models.caption,
        "layout": _layout,
        "pack": _pack,
    }
    live: list[Row] = []
    for name in journey[: journey.index(upto) + 1]:
        dice = random.Random(f"{name}/{rows}")
        given = [_listed(dice, i) for i in range(rows)] if name == "source" else live
        for row in given if name == "source" else ():
            change(row)
        judged = steps[name](dice, given)
        if name == reject_in and reject_all is not None:
            judged = [(row, Verdict(reject_all, "all of them")) for row, _ in judged]
        for row, _ in judged if name == "caption" else ():
            change_captioned(row)
        made.rows[name] = judged
        _write(made, name, judged, painter, manifest=not (unfinished and name == upto))
        live = made.kept(name)
    _write_record(made, status, error, seconds or {})
    return made


def _listed(dice: random.Random, i: int) -> Row:
    host = f"img{min(int(dice.paretovariate(0.9)), 60)}.example.org"
    return {
        "uid": make_uid("default", str(i)),
        "source": "default",
        "url": f"https://{host}/photos/{i:06d}.jpg",
        "alt_text": " ".join(dice.choices(WORDS, k=dice.randrange(0, 26))),
        "pwatermark": dice.betavariate(1.2, 4),
    }


def _source(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
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


def _fetch(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
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


def _select(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    judged: list[tuple[Row, Verdict]] = []
    for row in rows:
        winners = [r for r, verdict in judged if verdict.reason is None]
        if row["sharpness"] < 40 or row["pwatermark"] >= 0.6 or not make_models.good(row):
            judged.append((_bare(row), Verdict(Reason.WHERE, "sharpness >= 40 and pwatermark < 0.6")))
        elif winners and dice.random() < 0.12:
            judged.append((_bare(row), Verdict(Reason.NEAR_DUPLICATE, dice.choice(winners)["uid"])))
        else:
            judged.append((row, Verdict()))
    return judged


def _bare(row: Row) -> Row:
    """Rows that select drops carry only their names on."""
    return {name: row[name] for name in ("uid", "source", "url")}


def _layout(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    judged = []
    for row in rows:
        aspect = row["width"] / row["height"]
        width, height = min(BUCKETS, key=lambda b: abs(b[0] / b[1] - aspect))
        row = {**row, "bucket": f"{width}x{height}", "shard": "00000"}
        small = row["width"] < width or row["height"] < height
        judged.append((row, Verdict(Reason.SMALLER_THAN_BUCKET, row["bucket"]) if small else Verdict()))
    return judged


def _pack(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    return [({**row, "shard": f"{i // 90:05d}"}, Verdict()) for i, row in enumerate(rows)]


def _write_shard(folder: Folder, rows: list[Row], painter: Paint) -> None:
    """A shard of some rows; notes in them where their members stand."""
    with folder.writing(shard_path(rows[0]["shard"])) as path, open(path, "wb") as file:
        tar = TarWriter(file)
        for row in rows:
            width, height = (int(side) // 4 for side in row["bucket"].split("x"))
            image, text = painter(random.Random(row["uid"]), width, height), f"packed: {row['alt_text']}".encode()
            packed: Row = {}
            for member, name, data in (("image", "jpg", image), ("txt", "txt", text)):
                offset, length = tar.add(f"{row['uid']}.{name}", data)
                packed |= {f"{member}_offset": offset, f"{member}_length": length}
                packed[f"{member}_crc32c"] = google_crc32c.value(data)
            row["packed"] = packed
        tar.finish()
    for row in rows:
        row["packed"]["tar_bytes"] = tar.size


def _write(
    made: Made, name: str, judged: list[tuple[Row, Verdict]], painter: Paint, *, manifest: bool, size: int = 90
) -> None:
    folder, fragments, schema = made.stage(name), [], _schema(name, made.journey)
    for index, start in enumerate(range(0, len(judged), size)):
        part = judged[start : start + size]
        if name == "pack":
            _write_shard(folder, [row for row, _ in part], painter)
        writer = FragmentWriter(folder, index, schema, ("bytes_received",) if name == "fetch" else ())
        pictures = [_picture(row, painter) if name == "fetch" and v.reason is None else None for row, v in part]
        for (row, _), picture in zip(part, pictures, strict=True):
            if picture is not None:
                row |= {"sha256": hashlib.sha256(picture).hexdigest(), "stored_format": "jpg"}
        names = [f.name for f in schema if f.name not in ("outcome", "reason", "detail", "transient")]
        columns = {n: pa.array([row.get(n) for row, _ in part], schema.field(n).type) for n in names}
        table = pa.table(columns)
        if name == "fetch":
            table = table.append_column("image", pa.array(pictures, pa.large_binary()))
        writer.add(with_outcomes(table, [verdict for _, verdict in part]))
        fragments.append(writer.commit(end=start + size >= len(judged)))
        if name == "fetch":
            _note_places(folder, fragments[-1], part)
    if manifest:
        counts = sum((f.counts for f in fragments), Counts())
        write_manifest(folder, Manifest(name, FOLDERS[name][-12:], {}, None, counts, tuple(fragments)))


def _note_places(folder: Folder, fragment: Fragment, part: list[tuple[Row, Verdict]]) -> None:
    """Later stages carry on where fetch has put the pixels."""
    table = folder.read_table(fragment.name, ["tar", "offset", "length"])
    for (row, _), place in zip(part, table.to_pylist(), strict=True):
        row |= place


def _picture(row: Row, painter: Paint) -> bytes:
    scale = 320 / max(row["width"], row["height"])
    return painter(random.Random(row["uid"]), round(row["width"] * scale), round(row["height"] * scale))


def _schema(name: str, journey: tuple[str, ...]) -> pa.Schema:
    """The stage's schema: what each stage so far has added, and carries on."""
    added = {
        "source": [*SOURCE_FIELDS, KEEP],
        "fetch": FETCH_FIELDS,
        "score": make_models.SCORE_FIELDS,
        "caption": make_models.CAPTIONED_FIELDS,
        "layout": PACK_FIELDS,
        "pack": [PACKED],
    }
    so_far = [field for stage in journey[: journey.index(name) + 1] for field in added.get(stage, ())]
    return outcome_schema([field for field in so_far if name == "score" or field.name not in STAYS])


def _write_record(made: Made, status: str, error: str | None, given: dict[str, float]) -> None:
    seconds = {"source": 0.4, "fetch": 21.7, "score": 9.5, "select": 0.6, "caption": 84.0, "layout": 0.3, "pack": 6.2}
    seconds |= given
    stages = [
        {"name": name, "folder": FOLDERS[name], "cached": name == "source", "seconds": 0.0, "rows": 0}
        | ({"seconds": seconds[name], "rows": len(made.rows[name])} if name in made.rows else {})
        for name in made.journey
    ]
    made.output.write_json(
        RUN_FILE,
        {
            "format": 1,
            "name": made.config.name,
            "config": made.config.model_dump(mode="json"),
            "started": "2026-01-31T12:00:00+00:00",
            "finished": None if status == "running" else "2026-01-31T12:00:31+00:00",
            "status": status,
            "error": error,
            "engine": "local",
            "stages": stages,
            "corpus": FOLDERS["pack"] if status == "done" else None,
        },
    )


if __name__ == "__main__":
    print(write_report(make_run(Folder(sys.argv[1]), rows=1200, models=True).output))
