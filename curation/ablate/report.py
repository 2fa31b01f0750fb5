"""What an ablation found → one HTML page that needs nothing else; `pipelines/ablate.py` writes it beside `result.json`.

Prompts, names and settings pass the template's autoescaping, and the page forbids itself all loading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from markupsafe import Markup

from curation.ablate.measure import SCENE_KINDS
from curation.report import wording
from curation.report.curves import curves
from curation.report.intervals import Interval, intervals
from curation.report.page import as_yaml, page_environment, png_uri, write_page
from curation.units import format_bytes

_HERE = Path(__file__).parent
Found = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A metric in the table of all."""

    name: str
    cells: tuple[str, ...]
    """One an arm."""
    references: tuple[str, ...]
    better: str


@dataclass(frozen=True)
class Grid:
    """Pictures of one kind of prompt."""

    kind: str
    prompts: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Whose, and its pictures as data: URIs, one a prompt."""


def write_report(folder: Path, found: Found) -> Path:
    """Write `report.html` of what `curation.ablate.result.collect` gave into `folder`; returns its path."""
    environment = page_environment(_HERE)
    environment.filters.update(count=wording.count, size=format_bytes, setting=_setting, signed=_signed)
    arms, config = found["arms"], found["config"]
    rows = _metrics(found)
    page = environment.get_template("report.html").render(
        found=found,
        config=config,
        arms=arms,
        corpora=len({arm["corpus"] for arm in arms}),
        students=sum(len(arm["students"]) for arm in arms),
        hours=sum(arm["device_hours"] for arm in arms),
        primary=next(row.cells for row in rows if row.name == config["verdict"]["primary"]),
        claims=_claims(found),
        effects=_effects(found),
        metrics=rows,
        better={row.name: row.better for row in rows},
        papers=_papers(found),
        grids=_grids(found),
        charts=_charts(arms),
        yaml=as_yaml(config),
    )
    return write_page(folder, page)


def _claims(found: Found) -> Markup | None:
    verdicts = found["analysis"]["verdicts"]
    rows = [
        _interval(f"{v['better']} − {v['worse']}", v["estimate"], decided=v["outcome"] != "undecided") for v in verdicts
    ]
    return intervals("differences", rows, found["config"]["verdict"]["minimum_effect"]) if rows else None


def _effects(found: Found) -> Markup | None:
    primary = found["config"]["verdict"]["primary"]
    rows = [
        _interval(" × ".join(f"{f} {level}" for f, level in zip(e["factors"], e["levels"], strict=True)), e["estimate"])
        for e in found["analysis"]["effects"]
        if e["metric"] == primary
    ]
    return intervals("effects", rows, found["config"]["verdict"]["minimum_effect"]) if rows else None


def _interval(label: str, estimate: Mapping[str, Any], decided: bool | None = None) -> Interval:
    low, high = estimate["low"], estimate["high"]
    return Interval(
        label=label,
        mean=estimate["mean"],
        low=low,
        high=high,
        points=tuple(estimate["seeds"]),
        decided=(low > 0 or high < 0) if decided is None else decided,
    )


def _metrics(found: Found) -> list[Row]:
    words = {True: "more", False: "less", None: "neither"}
    return [
        Row(
            name=name,
            cells=tuple(_spread(seeds) for seeds in found["means"][name]),
            references=tuple(_number(one["means"].get(name)) for one in found["references"].values()),
            better=words[about["higher_is_better"]],
        )
        for name, about in found["metrics"].items()
    ]


def _papers(found: Found) -> dict[str, list[str]]:
    """Where metrics come from: paper → their names, without what the prompts were."""
    papers: dict[str, list[str]] = {}
    for name, about in found["metrics"].items():
        short = name.partition(".")[2] or name
        if about["paper"] and short not in papers.setdefault(about["paper"], []):
            papers[about["paper"]].append(short)
    return papers


def _grids(found: Found) -> list[Grid]:
    """One for each kind of prompt; references first."""
    shown: list[tuple[str, Path, list[dict[str, str]]]] = [
        (name, Path(one["folder"]), one["pictures"]) for name, one in found["references"].items()
    ]
    for arm in found["arms"]:
        first = arm["students"][0]
        shown.append((arm["name"], Path(first["folder"]), first["pictures"]))
    asked: dict[str, str] = {described: kind for kind, described in SCENE_KINDS.items()}  # as metrics' names have it
    grids = []
    for kind in dict.fromkeys(picture["kind"] for _, _, pictures in shown for picture in pictures):
        chosen = [(name, folder, [p for p in pictures if p["kind"] == kind]) for name, folder, pictures in shown]
        grids.append(
            Grid(
                asked.get(kind, kind),
                tuple(picture["text"] for picture in chosen[-1][2]),
                tuple(
                    (name, tuple(png_uri(folder / p["file"]) for p in pictures)) for name, folder, pictures in chosen
                ),
            )
        )
    return grids


def _charts(arms: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """Each loss over steps, a line an arm."""
    lines = {arm["name"]: _lines(Path(arm["students"][0]["folder"])) for arm in arms}
    names = dict.fromkeys(name for of in lines.values() for line in of for name in line["losses"])
    total = {arm: [(line["step"], line["loss"]) for line in of] for arm, of in lines.items()}
    charts = [("loss", curves("loss", total, log=True))]
    for name in names if len(names) > 1 else ():
        points = {arm: [(x["step"], x["losses"][name]) for x in of if name in x["losses"]] for arm, of in lines.items()}
        charts.append((f"{name} loss", curves(name, points, log=True)))
    return charts


def _lines(folder: Path) -> list[dict[str, Any]]:
    from curation.train.metrics import read_metrics

    return read_metrics(folder)


def _spread(seeds: Sequence[float | None]) -> str:
    known = [value for value in seeds if value is not None]
    if not known:
        return "–"
    return _number(fmean(known)) + (f" ± {stdev(known):.2g}" if len(known) > 1 else "")


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
