"""Lengths of captions, one strip of bars a kind over one common axis, as inline SVG.

A common axis, because what counts is how the kinds compare with each other and with what the student reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from curation.report.charts import nice_step
from curation.report.shapes import Lengths

WIDTH, LEFT, RIGHT = 420, 4, 416
TOP, LABEL, BARS, AXIS = 12, 25, 44, 20
MOST_BINS = 48
SHOWN_PART = 0.995
"""The axis ends where all but the longest 0.5 % of a kind's captions do; those stand in its last bar."""


def lengths(
    kinds: Sequence[tuple[str, Lengths]],
    unit: str,
    *,
    limit: int | None = None,
    ranges: Mapping[str, tuple[int, int]] | None = None,
) -> Markup:
    """One strip a kind, each scaled to its own peak.

    Args:
        kinds: name and lengths, from the top; those without captions are left out.
        unit: "words" or "tokens".
        limit: a line; longer captions are marked.
        ranges: fewest and most of what a kind may have, drawn under its strip.
    """
    drawn = [(kind, found) for kind, found in kinds if found.total]
    ends = [found.quantile(SHOWN_PART) or 0 for _, found in drawn] + ([math.ceil(limit * 1.1)] if limit else [])
    top = max(ends, default=0) + 1
    step = max(1, round(nice_step(top / MOST_BINS)))
    bins = math.ceil(top / step) + 1
    width = (RIGHT - LEFT) / bins

    def place(length: float) -> float:
        return LEFT + length / step * width

    parts: list[str] = []
    names: list[str] = []  # over the limit's line
    base = float(TOP)
    for kind, found in drawn:
        base += LABEL + BARS
        names.append(
            f'<text class="strip" x="{LEFT}" y="{base - BARS - 5}">{escape(kind)}'
            f'<tspan class="median" dx="7">median {found.quantile(0.5)}</tspan></text>'
        )
        parts += _bars(found, unit, limit, step, bins, base)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{base}" y2="{base}"/>')
        if ranges and kind in ranges:
            low, high = ranges[kind]
            x1, x2 = place(low), min(place(high + 1), RIGHT)
            parts.append(f'<line class="range" x1="{x1:.1f}" x2="{x2:.1f}" y1="{base + 1.5}" y2="{base + 1.5}"/>')
    if limit is not None and drawn:
        x = place(limit + 1)
        anchor, shift = ("start", 4) if x < WIDTH * 0.6 else ("end", -4)
        parts.append(
            f'<path class="limit" d="M{x:.1f} 4V{base}"/><text class="limit-text" x="{x + shift:.1f}" y="11" '
            f'text-anchor="{anchor}">the student reads {limit}</text>'
        )
    every = max(1, round(nice_step(bins * step / 6)))
    for value in range(0, bins * step + 1, every):
        x = place(value)
        anchor = "start" if x < 14 else "end" if x > WIDTH - 14 else "middle"
        parts.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
            f'<text class="tick-text" x="{x:.1f}" y="{base + 16}" text-anchor="{anchor}">{value:,}</text>'
        )
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {base + AXIS:.0f}" role="img" '
        f'aria-label="Length of captions by kind, in {escape(unit)}">{"".join(parts + names)}</svg>'
    )


def _bars(found: Lengths, unit: str, limit: int | None, step: int, bins: int, base: float) -> list[str]:
    """Bars that stand on `base`; a bar's captions beyond the limit are stacked on those within it."""
    within, beyond = [0] * bins, [0] * bins
    for length, n in found.counts:
        side = beyond if limit is not None and length > limit else within
        side[min(length // step, bins - 1)] += n
    peak = max(map(sum, zip(within, beyond, strict=True)))
    width = (RIGHT - LEFT) / bins
    parts = []
    for i, counts in enumerate(zip(within, beyond, strict=True)):
        first, last = i * step, (i + 1) * step - 1
        label = f"{first} or more" if i == bins - 1 else f"{first}" if first == last else f"{first} to {last}"
        y = base
        for n, name in zip(counts, ("after", "beyond"), strict=True):
            if n:
                height = max(1.0, BARS * n / peak)
                y -= height
                parts.append(
                    f'<rect class="{name}" x="{LEFT + i * width:.1f}" y="{y:.1f}" width="{max(0.8, width - 1):.1f}" '
                    f'height="{height:.1f}"><title>{label} {escape(unit)}: {n:,}</title></rect>'
                )
    return parts
