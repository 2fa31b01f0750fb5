"""A training's `run.json`, metrics and pictures → one HTML page that needs nothing else; `run.py` writes it at the end.

Prompts and settings pass the template's autoescaping, and the page forbids itself all loading.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from curation.report import wording
from curation.report.curves import curves
from curation.report.page import as_yaml, page_environment, png_uri, write_page
from curation.train.metrics import read_metrics
from curation.units import format_bytes

_HERE = Path(__file__).parent
MOST_GRIDS = 6


@dataclass(frozen=True)
class Grid:
    """Pictures of the fixed prompts at one time."""

    title: str
    pictures: tuple[str, ...]
    """As data: URIs, one a prompt."""


def write_report(folder: Path) -> Path:
    """Write `report.html` of the run in `folder` from what lies there; returns its path."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    lines = read_metrics(folder)
    environment = page_environment(_HERE)
    environment.filters.update(count=wording.count, size=format_bytes, duration=wording.duration, flops=_flops)
    page = environment.get_template("report.html").render(
        facts=facts,
        config=as_yaml(facts["config"]),
        charts=_charts(lines),
        last=lines[-1] if lines else None,
        step_seconds=median(paces) if (paces := _paces(lines, facts["config"])) else None,
        grids=_grids(folder),
        prompts=facts["config"]["grids"]["prompts"],
    )
    return write_page(folder, page)


def _charts(lines: list[dict[str, Any]]) -> list[tuple[str, str, Markup]]:
    """Title, remark and SVG of each curve."""
    names = list(lines[0]["losses"]) if lines else []
    shown = [("loss", [(line["step"], line["loss"]) for line in lines], True)]
    shown += [(f"{name} loss", [(line["step"], line["losses"][name]) for line in lines], True) for name in names]
    shown += [
        ("learning rate", [(line["step"], line["lr"]) for line in lines], False),
        ("gradient's norm", [(line["step"], line["grad_norm"]) for line in lines if line["grad_norm"]], True),
        ("samples a second", [(line["step"], line["samples_per_s"]) for line in lines], False),
        ("share of time that waits for data", [(line["step"], line["data_wait"]) for line in lines], False),
    ]
    return [
        (title, f"{points[-1][1]:.4g} at the end" if points else "", curves(title, {title: points}, log=log))
        for title, points, log in shown
    ]


def _grids(folder: Path) -> list[Grid]:
    """The reference's pictures first, then some of the times, the last one among them."""
    steps = sorted(path.name for path in (folder / "grids").glob("[0-9]*"))
    some = [steps[round(i * (len(steps) - 1) / max(1, MOST_GRIDS - 1))] for i in range(MOST_GRIDS)] if steps else []
    found = []
    for name in ["reference", *dict.fromkeys(some)]:
        files = sorted((folder / "grids" / name).glob("*.png"))
        title = "teacher" if name == "reference" else f"step {int(name):,}"
        if files:
            found.append(Grid(title, tuple(png_uri(file) for file in files)))
    return found


def _paces(lines: list[dict[str, Any]], config: dict[str, Any]) -> list[float]:
    """Seconds of a step, at each line."""
    samples = config["data"]["batch"] * config["loop"]["accumulate"]
    return [samples / line["samples_per_s"] for line in lines if line["samples_per_s"]]


def _flops(number: float | None) -> str:
    """1.23e15 → 1.23 P."""
    if number is None:
        return "not counted"
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if number < 1000:
            return f"{number:.3g} {unit}".strip()
        number /= 1000
    return f"{number:.3g} Z"
