"""One row's whole journey: what each stage of the last run decided about it. `curate explain` prints it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import RunError
from curation.fragments import committed, read_manifest
from curation.names import UID_PATTERN, make_uid, normalise_url
from curation.row import CLIP_EMBEDDING, OUTCOME_FIELDS, SCORE_US
from curation.run_log import read_run
from curation.storage import Folder
from curation.text import printable

WIDTH = 110
"""Characters of a line."""
MAX_NUMBERS = 16
"""Longer lists are for machines."""


@dataclass(frozen=True)
class Step:
    """What one stage said of the row."""

    stage: str
    folder: str
    row: dict[str, Any] | None
    """All columns, or None where the stage has not decided yet."""
    added: tuple[str, ...] = ()
    """Columns that this stage added, and that hold something."""

    def text(self, width: int = WIDTH) -> str:
        """For people, in lines of at most `width` characters where words allow. Harmless on a terminal."""
        if self.row is None:
            return f"{self.stage}: not decided yet ({self.folder} is unfinished)"
        outcome, reason, detail = (self.row[name] for name in ("outcome", "reason", "detail"))
        if reason:
            outcome = f"{outcome}: {reason}" + (f" ({printable(detail)})" if detail else "")
        lines = _wrapped(f"{self.stage}: {outcome}", "    ", width)
        for name in self.added:
            shown = _shown(name, self.row[name])
            if shown is not None:
                lines += _wrapped(f"    {name} = {shown}", " " * 8, width)
        return "\n".join(lines)


def _shown(name: str, value: Any) -> str | None:
    """A value for people: short, and harmless on a terminal. None for embeddings, which say nothing to them."""
    if name == SCORE_US.name:
        return ", ".join(f"{printable(each['op'])} {each['us'] / 1000:.1f} ms" for each in value)
    if name == CLIP_EMBEDDING or (isinstance(value, list) and len(value) > MAX_NUMBERS):
        return None
    if isinstance(value, float) and float(np.float32(value)) == value:
        return str(np.float32(value))  # the digits that tell it apart as a float32; the others are noise
    return repr(value)


def _wrapped(line: str, indent: str, width: int) -> list[str]:
    """A line as several of at most `width` characters. Longer words (URLs, hashes) stay whole, to be copied."""
    if len(line) <= width or " " not in line.split(" = ", 1)[-1]:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def explain(output: Folder, row: str) -> list[Step]:
    """The journey of the row with this URL or uid through the last run in `output`, stage by stage.

    A row that stopped has its last step where it stopped. A URL that stands in the list several times has a step in
    `source` for each. Raises RunError if no source of the run has such a row.
    """
    run = read_run(output)
    uids = _uids(run, row) | _as_listed(output.child(run["stages"][0]["folder"]), row)
    steps: list[Step] = []
    known: set[str] = set()
    for entry in run["stages"]:
        folder = output.child(entry["folder"])
        rows = list(_find(folder, uids))
        if not rows:
            if steps and read_manifest(folder) is None:
                steps.append(Step(entry["name"], entry["folder"], None))
            break
        for found in rows:
            added = [n for n, value in found.items() if value is not None and n not in known and n not in _OUTCOME]
            steps.append(Step(entry["name"], entry["folder"], found, tuple(added)))
        known.update(rows[0])
        if all(found["outcome"] != "kept" for found in rows):
            break
    if not steps:
        raise RunError(f"no row of {output.url} has the URL or uid {row!r}")
    return steps


_OUTCOME = frozenset(f.name for f in OUTCOME_FIELDS)


def _uids(run: dict[str, Any], row: str) -> set[str]:
    if UID_PATTERN.fullmatch(row):
        return {row}
    sources = run["config"]["source"]
    names = [s["name"] for s in (sources if isinstance(sources, list) else [sources])]
    url = normalise_url(row)
    return {make_uid(name, url if url is not None else row) for name in names}


def _as_listed(folder: Folder, row: str) -> set[str]:
    """Uids of the rows of which the list says exactly this where a URL should be: they are named by their place."""
    if normalise_url(row) is not None:
        return set()
    found: set[str] = set()
    for name in _fragments(folder):
        table = folder.read_table(name, ["uid", "url"])
        found.update(table.filter(pc.equal(table["url"], row))["uid"].to_pylist())
    return found


def _fragments(folder: Folder) -> list[str]:
    """Of a stage that may be unfinished."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return [fragment.name for fragment in manifest.fragments]
    return [name for group in committed(folder).values() for name in group]


def _find(folder: Folder, uids: set[str]) -> Iterator[dict[str, Any]]:
    for name in _fragments(folder):
        mask = pc.is_in(folder.read_table(name, ["uid"])["uid"], value_set=pa.array(sorted(uids)))
        if pc.any(mask).as_py():
            yield from folder.read_table(name).filter(mask).to_pylist()
