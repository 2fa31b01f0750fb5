"""A row's journey as text: scores and captions are readable, and nothing in them reaches the terminal as a command."""

from __future__ import annotations

import re

import pytest

from curation.explain import MAX_NUMBERS, Step, explain
from curation.storage import Folder
from tests.report.make_run import Made, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_run(Folder(tmp_path_factory.mktemp("run") / "out"), models=True, rows=200, upto="caption")


def test_scores_and_captions_are_readable(made: Made) -> None:
    row = max(made.kept("caption"), key=lambda row: len(row["caption_dense"]))
    steps = {step.stage: step.text(width=80) for step in explain(made.output, row["uid"])}
    assert list(steps) == ["source", "fetch", "score", "select", "caption", "layout"]
    assert steps["layout"].startswith("layout: not decided yet")
    assert re.search(r"^    aesthetic = \d\.\d+$", steps["score"], re.M)
    times = ", ".join(f"{each['op']} {each['us'] / 1000:.1f} ms" for each in row["score_us"])
    assert f"score_us = {times}" in " ".join(steps["score"].split())
    assert "clip_embedding" not in steps["score"]
    assert max(map(len, steps["caption"].splitlines())) <= 80
    assert f"caption_dense = '{row['caption_dense']}'" in " ".join(steps["caption"].split())
    assert f"captioning_us = {row['captioning_us']}" in steps["caption"]


def test_a_rejected_caption_says_why(made: Made) -> None:
    row, verdict = next((row, verdict) for row, verdict in made.rows["caption"] if verdict.reason)
    text = explain(made.output, row["uid"])[-1].text()
    assert " ".join(text.split()).startswith(f"caption: rejected: {verdict.reason} ({verdict.detail}".strip())


def test_values_are_harmless_and_exact() -> None:
    row = {
        "outcome": "rejected",
        "reason": "caption_refusal",
        "detail": "\x1b[31mno\u202e" + " word" * 30,
        "caption_dense": "\x1b]0;title\x07 a boat",
        "f32": 0.22832900285720825,
        "f64": 0.1 + 0.2,
        "numbers": list(range(MAX_NUMBERS + 1)),
        "score_us": [{"op": "a\x1b", "us": 1500}],
        "url": "https://host.example/" + "x" * 200,
    }
    text = Step("caption", "folder", row, tuple(row)[3:]).text(width=60)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "f32 = 0.228329\n" in text
    assert "f64 = 0.30000000000000004\n" in text
    assert "numbers" not in text
    assert "score_us = a\\x1b 1.5 ms" in text
    assert f"url = {row['url']!r}" in text  # whole, to be copied
    assert max(len(line) for line in text.splitlines() if "url" not in line) <= 60
