"""Lengths of captions by kind: bars stand on one axis, and what the student does not read is marked."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from curation.report import ridges
from curation.report.shapes import Lengths


def bars(svg: str, name: str) -> list[dict[str, float]]:
    found = [r.attrib for r in ElementTree.fromstring(svg).iter("rect") if r.get("class") == name]
    return [{key: float(r[key]) for key in ("x", "y", "width", "height")} for r in found]


def titles(svg: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter("title")]


def test_kinds_share_an_axis_and_have_peaks_of_their_own() -> None:
    svg = ridges.lengths([("dense", Lengths(((40, 100),))), ("short", Lengths(((10, 3),)))], "words")
    dense, short = bars(svg, "after")
    assert dense["height"] == short["height"] == ridges.BARS
    assert dense["x"] - ridges.LEFT == pytest.approx(4 * (short["x"] - ridges.LEFT), abs=0.5)
    assert short["y"] > dense["y"] + ridges.BARS


def test_the_limit_parts_a_bar() -> None:
    svg = ridges.lengths([("dense", Lengths(((75, 1), (77, 1), (78, 2), (200, 4))))], "tokens", limit=77)
    (read,), beyond = bars(svg, "after"), bars(svg, "beyond")
    assert read["height"] == beyond[0]["height"] == pytest.approx(ridges.BARS / 2)
    assert beyond[0]["y"] == pytest.approx(read["y"] - beyond[0]["height"])
    (line,) = re.findall(r'class="limit" d="M([\d.]+) ', svg)
    assert read["x"] < float(line) <= read["x"] + read["width"] + 2
    assert "75 to 79 tokens: 2" in titles(svg)


def test_a_few_very_long_ones_stand_in_the_last_bar() -> None:
    svg = ridges.lengths([("alt", Lengths(((10, 1000), (4000, 1))))], "words")
    assert titles(svg)[-1].endswith("or more words: 1")
    assert max(bar["x"] + bar["width"] for bar in bars(svg, "after")) <= ridges.RIGHT


def test_ranges_stay_within_the_chart() -> None:
    svg = ridges.lengths([("short", Lengths(((10, 5),)))], "words", ranges={"short": (3, 2500), "dense": (1, 2)})
    (line,) = [e.attrib for e in ElementTree.fromstring(svg).iter("line") if e.get("class") == "range"]
    assert ridges.LEFT < float(line["x1"]) < float(line["x2"]) <= ridges.RIGHT


def test_no_captions_no_bars() -> None:
    svg = ridges.lengths([("dense", Lengths())], "tokens", limit=77)
    assert bars(svg, "after") == bars(svg, "beyond") == []
    assert "<dense>" in "".join(
        t.text or ""
        for t in ElementTree.fromstring(ridges.lengths([("<dense>", Lengths(((1, 1),)))], "words")).iter("text")
    )
