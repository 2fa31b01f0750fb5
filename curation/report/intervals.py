"""Means with their intervals as inline SVG, one below the other, for reports of ablations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from curation.report.charts import nice_step

WIDTH, ROW, TOP, FOOT = 760, 34, 8, 22
LEFT, RIGHT = 300, 744


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One row."""

    label: str
    mean: float
    low: float
    high: float
    points: tuple[float, ...] = ()
    """Drawn as dots: the seeds'."""
    decided: bool = False
    """Drawn in the colour of what is kept."""


def intervals(title: str, rows: Sequence[Interval], minimum: float | None = None) -> Markup:
    """All `rows` over one axis with a line at 0; what is nearer to 0 than `minimum` is shaded."""
    height = TOP + ROW * len(rows) + FOOT
    head = f'<svg class="chart intervals" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    values = [0.0, *(v for row in rows for v in (row.low, row.high, *row.points) if math.isfinite(v))]
    low, high = min(*values, -(minimum or 0)), max(*values, minimum or 0)
    step = nice_step((high - low or 1) / 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)

    def x(value: float) -> float:
        return LEFT + (value / step - first) / (last - first) * (RIGHT - LEFT)

    bottom = TOP + ROW * len(rows)
    parts = []
    if minimum is not None:
        parts.append(
            f'<rect class="too-small" x="{x(-minimum):.1f}" width="{x(minimum) - x(-minimum):.1f}" y="{TOP}" '
            f'height="{bottom - TOP}"/>'
        )
    for tick in range(first, last + 1):
        place = x(tick * step)
        parts.append(f'<line class="{"zero" if tick == 0 else "grid-line"}" {_line(place, TOP, place, bottom)}/>')
        parts.append(
            f'<text class="tick-text" x="{place:.1f}" y="{bottom + 15}" text-anchor="middle">{tick * step:.3g}</text>'
        )
    for number, row in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        parts.append(
            f'<text class="label" x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(row.label)}</text>'
        )
        if not (math.isfinite(row.low) and math.isfinite(row.high)):
            continue
        name = "decided" if row.decided else "open"
        parts += [f'<circle class="seed" cx="{x(p):.1f}" cy="{y - 8:.1f}" r="2.4"/>' for p in row.points]
        parts.append(f'<line class="interval {name}" {_line(x(row.low), y, x(row.high), y)}/>')
        parts.append(
            f'<circle class="mean {name}" cx="{x(row.mean):.1f}" cy="{y:.1f}" r="5"><title>{row.mean:+.3g} '
            f"({row.low:.3g} to {row.high:.3g})</title></circle>"
        )
    return Markup(f"{head}{''.join(parts)}</svg>")


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"'
