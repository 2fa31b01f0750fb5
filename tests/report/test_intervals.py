"""Intervals as SVG: where things stand, and that labels cannot break out of it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from curation.report.intervals import Interval, intervals

ROWS = [
    Interval(label="a − b", mean=0.1, low=0.05, high=0.15, points=(0.08, 0.12), decided=True),
    Interval(label="<script>", mean=0.0, low=-0.1, high=0.1),
]


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names]


def test_intervals_stand_where_their_numbers_say() -> None:
    svg = ElementTree.fromstring(intervals("differences", ROWS, minimum=0.03))
    (zero,) = [line for line in svg.iter("line") if line.attrib["class"] == "zero"]
    origin = numbers(zero, "x1")[0]
    first, second = (line for line in svg.iter("line") if line.attrib["class"].startswith("interval"))
    low, high = (x - origin for x in numbers(first, "x1", "x2"))
    assert high == pytest.approx(3 * low, abs=0.2)
    assert sum(x - origin for x in numbers(second, "x1", "x2")) == pytest.approx(0, abs=0.2)
    assert [line.attrib["class"] for line in (first, second)] == ["interval decided", "interval open"]
    means = [c for c in svg.iter("circle") if c.attrib["class"].startswith("mean")]
    assert numbers(means[0], "cx")[0] - origin == pytest.approx(2 * low, abs=0.2)
    assert len([c for c in svg.iter("circle") if c.attrib["class"] == "seed"]) == 2
    (shade,) = svg.iter("rect")
    assert numbers(shade, "width")[0] == pytest.approx(2 * 0.03 / 0.05 * low, abs=0.3)


def test_labels_are_escaped_and_what_is_no_number_is_left_out() -> None:
    svg = intervals("<b>", [*ROWS, Interval(label="none", mean=float("nan"), low=float("nan"), high=float("nan"))])
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert len(re.findall(r'class="label"', svg)) == 3
    assert "nan" not in svg
