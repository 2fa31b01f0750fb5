"""Charts: what is drawn stands where its numbers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from curation.report import charts
from curation.report.shapes import Heat, Histogram


def rects(svg: str, name: str) -> list[dict[str, float]]:
    found = [r.attrib for r in ElementTree.fromstring(svg).iter("rect") if r.get("class") == name]
    return [{k: float(r[k]) for k in ("x", "y", "width", "height")} for r in found]


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter("text")]


def linear(before: list[int], after: list[int], **options: object) -> Histogram:
    edges = tuple(float(i) for i in range(len(before) + 1))
    return Histogram("k", "Title", "", False, edges, tuple(before), tuple(after), **options)  # type: ignore[arg-type]


def test_bars_are_in_proportion_above_and_below() -> None:
    svg = charts.histogram(linear([0, 100, 50, 0, 0, 0], [0, 0, 3, 0, 0, 0]))
    above, below = rects(svg, "before"), rects(svg, "after")
    assert [r["height"] for r in above] == [charts.HALF, charts.HALF / 2]
    assert [r["height"] for r in below] == [charts.HALF]
    assert above[0]["y"] + above[0]["height"] == charts.TOP + charts.HALF
    assert below[0]["y"] == charts.TOP + charts.HALF + charts.GAP
    assert below[0]["x"] == above[1]["x"]


def test_one_row_of_a_million_is_still_seen() -> None:
    assert min(r["height"] for r in rects(charts.histogram(linear([10**6, 1], [0, 0])), "before")) >= 1


def test_an_empty_histogram_is_an_empty_chart() -> None:
    svg = charts.histogram(linear([0, 0], [0, 0]))
    assert rects(svg, "before") == rects(svg, "after") == []


def test_thresholds_stand_at_their_value() -> None:
    svg = charts.histogram(linear([1] * 10, [1] * 10, limits=((5.0, "≥ <5>"), (99.0, "outside"))))
    (line,) = re.findall(r'class="limit" d="M([\d.]+) ', svg)
    assert float(line) == pytest.approx((charts.LEFT + charts.RIGHT) / 2, abs=0.1)
    assert "≥ <5>" in texts(svg)
    assert "outside" not in texts(svg)


def test_ticks_are_round_numbers() -> None:
    edges = tuple(16 * 2 ** (i / 4) for i in range(41))
    sides = Histogram("short_side", "", "px", True, edges, (1,) * 40, (1,) * 40)
    assert {"64", "1,024", "4,096"} <= set(texts(charts.histogram(sides)))
    size = Histogram("bytes", "", "B", True, (1e5, 2e5, 4e5, 8e5), (1, 1, 1), (1, 1, 1))
    assert texts(charts.histogram(size)) == ["100 kB", "200 kB", "500 kB"]


@pytest.mark.parametrize(("least", "step"), [(0.3, 0.5), (1, 1), (1.1, 2), (70, 100), (0.002, 0.002)])
def test_nice_step(least: float, step: float) -> None:
    assert charts.nice_step(least) == pytest.approx(step)


def test_heat_puts_wide_images_right_and_tall_ones_up() -> None:
    wide, tall = (11 * 4, 9 * 4), (9 * 4, 11 * 4)
    svg = charts.heat(Heat(4, {wide: 5, tall: 10}, {wide: 1}, 768, 2.0), "before")
    first, second = rects(svg, "before")
    assert (first["x"] < second["x"], first["y"] < second["y"]) == (True, True)
    assert len(rects(charts.heat(Heat(4, {wide: 5}, {wide: 1}, 0, None), "after"), "after")) == 1


def test_drawn_to_scale() -> None:
    svg = charts.to_scale(384, 192, (768, 768))
    (had,), (needed,) = rects(svg, "had"), rects(svg, "needed")
    assert had["width"] / needed["width"] == pytest.approx(0.5, abs=0.01)
    assert had["height"] / needed["height"] == pytest.approx(0.25, abs=0.01)
    assert had["y"] + had["height"] == pytest.approx(needed["y"] + needed["height"], abs=0.2)
    assert rects(charts.to_scale(2**31, 1, None), "had")[0]["height"] >= 1
