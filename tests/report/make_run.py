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

import pyarrow as pa
from crc32c import crc32c
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
    with_outcomes,
)
from curation.run_log import RUN_FILE
from curation.storage import Folder
from curation.tar import TarWriter
from tests.report import make_models, make_rows
from tests.report.make_models import MODEL_STAGES

JOURNEY = ("source", "fetch", "score", "select", "caption", "layout", "pack")
FOLDERS = {name: f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}" for name in JOURNEY}
KEEP = pa.field("pwatermark", pa.float32())

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
    change_scored: Callable[[Row], None] = lambda row: None,
    change_captioned: Callable[[Row], None] = lambda row: None,
    reject_all: Reason | None = None,
    reject_in: str = "fetch",
    reject_detail: str = "all of them",
    models: bool = False,
    caption: dict[str, Any] | None = None,
    seconds: dict[str, float] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Made:
    """Make a run of `rows` rows as far as the stage `upto`, which stays without a manifest where `unfinished`.

    `change` may edit each source row, `change_scored` and `change_captioned` each row of those stages; `reject_all`
    drops every row in `reject_in`; `models` adds the stages score and caption, this with the further settings
    `caption`; `seconds` replaces those of some stages.
    """
    config = make_config(
        {
            "name": "harbour-lights",
            "output": output.url,
            "source": {"kind": "parquet", "path": "list.parquet", "columns": {"keep": ["pwatermark"]}},
            "stages": {
                "fetch": {"min_side": 768, "max_aspect": 2.0},
                "select": {"where": "sharpness >= 40 and pwatermark < 0.6", "dedup": {"phash": 4}},
                "pack": {"resolution": 768, "primary": "alt"},
                **(make_models.settings(caption or {}) if models else {}),
            },
            **(overrides or {}),
        }
    )
    journey = tuple(name for name in JOURNEY if models or name not in MODEL_STAGES)
    made = Made(output, config, journey)
    steps = {
        "source": make_rows.source,
        "fetch": make_rows.fetch,
        "score": make_models.score,
        "select": make_rows.select,
        "caption": make_models.caption,
        "layout": make_rows.layout,
        "pack": make_rows.pack,
    }
    live: list[Row] = []
    for name in journey[: journey.index(upto) + 1]:
        dice = random.Random(f"{name}/{rows}")
        given = [make_rows.listed(dice, i) for i in range(rows)] if name == "source" else live
        for row in given if name == "source" else ():
            change(row)
        judged = steps[name](dice, given)
        if name == reject_in and reject_all is not None:
            judged = [(row, Verdict(reject_all, reject_detail)) for row, _ in judged]
        for row, _ in judged:
            {"score": change_scored, "caption": change_captioned}.get(name, lambda row: None)(row)
        made.rows[name] = judged
        _write(made, name, judged, painter, manifest=not (unfinished and name == upto))
        live = made.kept(name)
    _write_record(made, status, error, seconds or {})
    return made


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
                packed[f"{member}_crc32c"] = crc32c(data)
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
