"""Small charts as inline SVG, coloured by the page's style sheet. Numbers and fixed words only: no untrusted text
reaches an SVG unescaped, and nothing in one refers to anything outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from curation.report.shapes import Heat, Histogram
from curation.units import format_bytes

WIDTH, HALF, GAP, TOP = 360, 78, 20, 18
HEIGHT = TOP + 2 * HALF + GAP + 2
LEFT, RIGHT = 4, 356

_ASPECTS = ((1, 4), (1, 3), (1, 2), (2, 3), (1, 1), (3, 2), (2, 1), (3, 1), (4, 1))


def histogram(h: Histogram, *, mirrored: bool = True, names: tuple[str, str] = ("before", "after")) -> Markup:
    """Bars of `h.before` above the axis, of `h.after` below it, each scaled to its own peak.

    Own scales, because a corpus may keep three rows of a hundred: what matters is how the shape changes. `names` are
    the style sheet's for the two.
    """
    first, last = _populated(h)
    low, high = h.edges[first], h.edges[last]
    place = _scale(low, high, h.log)
    parts = []
    axis = TOP + HALF
    step = (RIGHT - LEFT) / (last - first)
    bar = max(0.8, step - (1.5 if step > 5 else 0.4))
    for counts, name, up in ((h.before, names[0], True), (h.after, names[1], False)):
        if not up and not mirrored:
            continue
        peak = max(counts[first:last], default=0)
        for i in range(first, last):
            if counts[i]:
                height = max(1.2, HALF * counts[i] / peak)
                y = axis - height if up else axis + GAP
                label = f"{axis_value(h, h.edges[i])} to {axis_value(h, h.edges[i + 1])}: {counts[i]:,}"
                parts.append(
                    f'<rect class="{name}" x="{LEFT + (i - first) * step:.1f}" y="{y:.1f}" width="{bar:.1f}" '
                    f'height="{height:.1f}"><title>{escape(label)}</title></rect>'
                )
    lower = f"m0 {GAP}v{HALF}" if mirrored else ""
    for value, label in h.limits:
        x = place(value)
        if x is not None:
            anchor = "start" if x < WIDTH * 0.7 else "end"
            parts.append(
                f'<path class="limit" d="M{x:.1f} 4V{axis}{lower}"/>'
                f'<text class="limit-text" x="{x + (4 if anchor == "start" else -4):.1f}" y="11" '
                f'text-anchor="{anchor}">{escape(label)}</text>'
            )
    for value, label in _ticks(h, low, high):
        x = place(value)
        if x is not None:
            anchor = "start" if x < 14 else "end" if x > WIDTH - 14 else "middle"
            parts.append(
                f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{axis}" y2="{axis + 3}"/>'
                f'<text class="tick-text" x="{x:.1f}" y="{axis + 14}" text-anchor="{anchor}">{escape(label)}</text>'
            )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{axis}" y2="{axis}"/>')
    height = HEIGHT if mirrored else axis + GAP
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Histogram: {escape(h.title)}">'
    return Markup(f"{head}{''.join(parts)}</svg>")


def _populated(h: Histogram) -> tuple[int, int]:
    """The range of bins worth drawing: those with rows, and those with thresholds, and one more on either side."""
    used = [i for i, n in enumerate(h.before) if n] + [i for i, n in enumerate(h.after) if n]
    for value, _ in h.limits:
        used += [i for i in range(len(h.before)) if h.edges[i] <= value < h.edges[i + 1]]
    first, last = max(0, min(used, default=0) - 1), min(len(h.before), max(used, default=0) + 2)
    return first, last


def _scale(low: float, high: float, log: bool) -> Callable[[float], float | None]:
    """Value → x in the chart, or None outside of it."""

    def place(value: float) -> float | None:
        if not low <= value <= high:
            return None
        part = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return LEFT + part * (RIGHT - LEFT)

    return place


def _ticks(h: Histogram, low: float, high: float) -> list[tuple[float, str]]:
    if h.key == "aspect":
        return [(a / b, f"{a}:{b}") for a, b in _ASPECTS if low <= a / b <= high]
    if h.log:
        base = 2.0 if h.unit == "px" else 10.0
        powers = range(math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9) + 1)
        if base == 10 and len(powers) < 3:
            return [
                (m * 10.0**p, axis_value(h, m * 10.0**p))
                for p in range(powers.start - 1, powers.stop)
                for m in (1, 2, 5)
            ]
        every = max(1, math.ceil(len(powers) / 7))
        return [(base**p, axis_value(h, base**p)) for p in powers if p % every == 0]
    step = nice_step((high - low) / 6)
    return [
        (i * step, axis_value(h, i * step)) for i in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)
    ]


def axis_value(h: Histogram, value: float) -> str:
    """A value of the histogram's measure, as its axis shows it."""
    if h.unit == "B":
        return format_bytes(value).replace(".0 ", " ")
    if h.unit == "words":
        return f"{value:.0f}"
    if h.unit == "ms":
        return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5 × 10^n that is at least `least` (> 0)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= least * (1 - 1e-9))


def heat(h: Heat, which: str) -> Markup:
    """Images over width (across) and height (upwards), both logarithmic; darker cells hold more."""
    cells = h.before if which == "before" else h.after
    every = [*h.before, *h.after]
    lines = [math.floor(math.log2(h.min_side) * h.steps)] if h.min_side else []
    low = min([min(x, y) for x, y in every] + lines)
    high = max([max(x, y) for x, y in every] + lines) + 1
    low, high = math.floor(low / h.steps) * h.steps, math.ceil(high / h.steps) * h.steps
    left, top, side = 38, 8, 476
    cell = side / (high - low)

    def x_of(pixels: float) -> float:
        return left + (math.log2(pixels) * h.steps - low) * cell

    def y_of(pixels: float) -> float:
        return top + side - (math.log2(pixels) * h.steps - low) * cell

    peak = max(cells.values(), default=1)
    parts = [f'<rect class="plot" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    octaves = range(low // h.steps, high // h.steps + 1)
    for octave in octaves:
        pixels = 2**octave
        x, y = x_of(pixels), y_of(pixels)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + side}"/>')
        parts.append(f'<line class="grid" x1="{left}" x2="{left + side}" y1="{y:.1f}" y2="{y:.1f}"/>')
        if len(octaves) <= 8 or octave % 2 == 0:
            parts.append(
                f'<text class="tick-text" x="{x:.1f}" y="{top + side + 14}" text-anchor="middle">{pixels}</text>'
            )
            parts.append(f'<text class="tick-text" x="{left - 5}" y="{y + 3.5:.1f}" text-anchor="end">{pixels}</text>')
    for (x_bin, y_bin), n in sorted(cells.items()):
        strength = 0.12 + 0.88 * math.sqrt(n / peak)
        wide, tall = (round(2 ** (b / h.steps)) for b in (x_bin, y_bin))
        parts.append(
            f'<rect class="{which}" x="{left + (x_bin - low) * cell:.1f}" y="{top + (high - 1 - y_bin) * cell:.1f}" '
            f'width="{cell - 0.6:.1f}" height="{cell - 0.6:.1f}" fill-opacity="{strength:.2f}">'
            f"<title>about {wide} × {tall}: {n:,}</title></rect>"
        )
    lowest, highest = 2 ** (low / h.steps), 2 ** (high / h.steps)
    for aspect in (1.0, *((h.max_aspect, 1 / h.max_aspect) if h.max_aspect else ())):
        a, b = max(lowest, lowest * aspect), min(highest, highest * aspect)
        parts.append(
            f'<line class="{"diagonal" if aspect == 1 else "limit"}" x1="{x_of(a):.1f}" y1="{y_of(a / aspect):.1f}" '
            f'x2="{x_of(b):.1f}" y2="{y_of(b / aspect):.1f}"/>'
        )
    if h.min_side:
        x, y = x_of(h.min_side), y_of(h.min_side)
        parts.append(f'<polyline class="limit" points="{x:.1f},{top} {x:.1f},{y:.1f} {left + side},{y:.1f}"/>')
    name = "All images whose header was read" if which == "before" else "Images kept in the end"
    return Markup(
        f'<svg class="chart heat" viewBox="0 0 532 506" role="img" aria-label="{name}, by width and height">'
        f"{''.join(parts)}</svg>"
    )


def to_scale(width: int, height: int, needed: tuple[int, int] | None) -> Markup:
    """An image that nobody has, drawn to scale, with the outline that it had to cover or to fit in (`needed`)."""
    box_w, box_h = needed or (0, 0)
    scale = min(168 / max(width, box_w, 1), 112 / max(height, box_h, 1))
    w, h = (max(1.5, scale * side) for side in (width, height))
    left, base = (180 - max(w, scale * box_w)) / 2, 118.0
    outline = (
        f'<rect class="needed" x="{left:.1f}" y="{base - scale * box_h:.1f}" width="{scale * box_w:.1f}" '
        f'height="{scale * box_h:.1f}"/>'
        if needed
        else ""
    )
    return Markup(
        f'<svg class="to-scale" viewBox="0 0 180 124" role="img" aria-label="{width} by {height} pixels">'
        f'<rect class="had" x="{left:.1f}" y="{base - h:.1f}" width="{w:.1f}" height="{h:.1f}"/>{outline}</svg>'
    )


def bucket_shape(width: int, height: int, sides: Sequence[int]) -> Markup:
    """A bucket's outline, on one scale for all buckets; `sides`: all sides of all buckets."""
    scale = 40 / max(sides)
    w, h = width * scale, height * scale
    return Markup(
        f'<svg class="bucket-shape" viewBox="0 0 42 42" aria-hidden="true">'
        f'<rect x="{21 - w / 2:.1f}" y="{41 - h:.1f}" width="{w:.1f}" height="{h:.1f}"/></svg>'
    )
