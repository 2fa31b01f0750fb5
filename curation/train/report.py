"""A training's `run.json`, metrics and pictures → one HTML page that needs nothing else; `run.py` writes it at the end.

Prompts and settings pass the template's autoescaping, and the page forbids itself all loading.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from curation.report import wording
from curation.report.curves import curves
from curation.report.page import page_environment
from curation.storage import storage_errors
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
        config=yaml.safe_dump(facts["config"], sort_keys=False, allow_unicode=True, width=100),
        charts=_charts(lines),
        last=lines[-1] if lines else None,
        step_seconds=_median([1 / rate for line in lines if (rate := _steps_per_s(line, facts["config"]))]),
        grids=_grids(folder),
        prompts=facts["config"]["grids"]["prompts"],
    )
    path = folder / "report.html"
    with storage_errors(str(path)):
        path.write_text(page, encoding="utf-8")
    return path


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
            found.append(Grid(title, tuple(_data_uri(file) for file in files)))
    return found


def _data_uri(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _steps_per_s(line: dict[str, Any], config: dict[str, Any]) -> float:
    return float(line["samples_per_s"] / (config["data"]["batch"] * config["loop"]["accumulate"]))


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _flops(number: float | None) -> str:
    """1.23e15 → 1.23 P."""
    if number is None:
        return "not counted"
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if number < 1000:
            return f"{number:.3g} {unit}".strip()
        number /= 1000
    return f"{number:.3g} Z"
