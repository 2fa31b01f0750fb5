"""Lines over steps as inline SVG, coloured by the page's style sheet, for reports of trainings and ablations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from curation.report.charts import nice_step

WIDTH, HEIGHT = 360, 170
COLOURS = 6
"""The style sheet's; more lines begin anew, fainter."""
LEFT, RIGHT, TOP, BOTTOM = 46, 352, 10, 148

Points = Sequence[tuple[float, float]]


def curves(title: str, lines: Mapping[str, Points], *, log: bool = False) -> Markup:
    """Lines by name over a common axis; `log`: the upright one is logarithmic, and points at or under 0 are left out.

    A chart of no points says so.
    """
    shown = {name: [(x, y) for x, y in points if _drawable(y, log)] for name, points in lines.items()}
    every = [point for points in shown.values() for point in points]
    head = f'<svg class="chart curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    if not every:
        return Markup(f'{head}<text x="{LEFT}" y="{HEIGHT / 2}">nothing yet</text></svg>')
    low_x, high_x = min(x for x, _ in every), max(x for x, _ in every)
    bottom, top, ticks = _range([y for _, y in every], log)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / (high_x - low_x or 1)
        value = math.log10(y) if log else y
        return LEFT + across * (RIGHT - LEFT), BOTTOM - (value - bottom) / (top - bottom) * (BOTTOM - TOP)

    parts = []
    for tick in ticks:
        y = place(low_x, tick)[1]
        parts.append(
            f'<line class="grid-line" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick-text" x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
    for x, anchor in ((low_x, "start"), (high_x, "end")):
        parts.append(
            f'<text class="tick-text" x="{place(x, ticks[0])[0]:.1f}" y="{BOTTOM + 15}" text-anchor="{anchor}">'
            f"{_short(x)}</text>"
        )
    for number, (name, points) in enumerate(shown.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        again = " again" if number >= COLOURS else ""
        parts.append(
            f'<polyline class="line line-{number % COLOURS}{again}" points="{path}">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return Markup(f"{head}{''.join(parts)}</svg>")


def _drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _range(values: Sequence[float], log: bool) -> tuple[float, float, list[float]]:
    """Lowest and highest place of the upright axis, and the values to name on it."""
    if log:
        low, high = math.log10(min(values)), math.log10(max(values))
        if high - low < 0.3:
            low, high = low - 0.15, high + 0.15
        ticks = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
        ticks = [t for t in ticks if low <= math.log10(t) <= high]
        return low, high, ticks[:: max(1, math.ceil(len(ticks) / 6))] or [10**low]
    low, high = min(values), max(values)
    step = nice_step((high - low or abs(high) or 1) / 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = last if last > first else first + 1
    return first * step, last * step, [i * step for i in range(first, last + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
