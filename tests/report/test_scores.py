"""Scores in a report: all scored rows are there, on the right side, and operators' times add up."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from curation.report.collect import collect
from curation.report.facts import RunFacts
from curation.report.model_facts import ScoreFacts
from curation.row import Reason
from curation.storage import Folder
from tests.report.checks import check_funnel
from tests.report.make_run import Made, Row, make_run

SCORES = ["clip_similarity", "aesthetic", "watermark", "Sharpness"]


def by_title(facts: RunFacts) -> dict[str, ScoreFacts]:
    assert facts.scoring is not None
    return {score.histogram.title: score for score in facts.scoring.scores}


def values(rows: list[Row], name: str) -> list[float]:
    return [row[name.lower()] for row in rows if row.get(name.lower()) is not None]


def test_each_score_counts_all_scored_rows_by_what_select_did(modelled: Made, modelled_facts: RunFacts) -> None:
    check_funnel(modelled_facts)
    scores = by_title(modelled_facts)
    assert list(scores) == SCORES
    scored, kept = modelled.kept("score"), modelled.kept("select")
    for name, score in scores.items():
        assert score.scored == len(values(scored, name))
        assert score.missing == len(scored) - score.scored
        assert score.kept == sum(score.histogram.after) == len(values(kept, name))
        assert sum(score.histogram.before) == score.dropped == score.scored - len(values(kept, name)) > 0
    assert scores["clip_similarity"].missing > 0  # rows without a caption


def test_thresholds_tell_the_rows_on_each_side(modelled: Made, modelled_facts: RunFacts) -> None:
    scores = by_title(modelled_facts)
    scored = modelled.kept("score")
    for name, label, least in (
        ("aesthetic", "≥ 4.75", 4.75),
        ("Sharpness", "≥ 40", 40.0),
        ("clip_similarity", "> 0.17", 0.17),
    ):
        (threshold,) = scores[name].thresholds
        assert threshold.label == label
        assert threshold.passing == sum(value >= least for value in values(scored, name))
        assert scores[name].histogram.limits == ((least, label),)
    # "watermark < 0.9" stands under OR: rows beyond it may stay.
    assert scores["watermark"].thresholds == ()


def test_a_threshold_is_an_edge_between_bars(modelled: Made, modelled_facts: RunFacts) -> None:
    h = by_title(modelled_facts)["aesthetic"].histogram
    (place,) = [i for i, edge in enumerate(h.edges) if math.isclose(edge, 4.75)]
    below = sum(value < 4.75 for value in values(modelled.kept("score"), "aesthetic"))
    assert sum(h.before[:place]) == below
    assert sum(h.after[:place]) == 0


def test_scores_are_shown_once(modelled_facts: RunFacts, facts: RunFacts) -> None:
    keys = {h.key for h in modelled_facts.histograms}
    assert "column:pwatermark" in keys
    assert not keys & {"sharpness", *(f"column:{name}" for name in SCORES)}
    assert not any("caption_" in key.removeprefix("caption_words") for key in keys)
    assert facts.scoring is None
    assert "sharpness" in {h.key for h in facts.histograms}


def test_speed_is_the_sum_over_rows(modelled: Made, modelled_facts: RunFacts) -> None:
    assert modelled_facts.scoring is not None
    spent = [entry for row in modelled.kept("score") for entry in row["score_us"]]
    speeds = modelled_facts.scoring.operators
    assert [op.op for op in speeds] == ["clip", "watermark", "decode", "aesthetic"]
    for op in speeds:
        us = [entry["us"] for entry in spent if entry["op"] == op.op]
        assert (op.images, op.seconds) == (len(us), pytest.approx(sum(us) / 1e6))
        assert op.per_s == pytest.approx(len(us) / (sum(us) / 1e6))


def test_before_select_all_scored_rows_are_shown(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path), models=True, upto="score", unfinished=True, status="running", rows=120)
    score = by_title(collect(made.output))["aesthetic"]
    assert score.kept is None
    assert sum(score.histogram.before) == score.scored == len(made.kept("score"))
    assert sum(score.histogram.after) == 0
    assert score.thresholds[0].passing < score.scored


def test_no_row_has_a_score(tmp_path: Path) -> None:
    made = make_run(
        Folder(tmp_path),
        models=True,
        upto="score",
        reject_all=Reason.OPERATOR_FAULT,
        reject_in="score",
        status="failed",
    )
    facts = collect(made.output)
    assert facts.scoring is not None
    assert facts.scoring.scores == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, 5.0])
def test_odd_scores(tmp_path: Path, value: float) -> None:
    def change(row: Row) -> None:
        row["aesthetic"] = value

    made = make_run(Folder(tmp_path), models=True, upto="score", rows=180, change_scored=change)
    rows = len(made.kept("score"))
    found = by_title(collect(made.output))
    if value == 5.0:
        assert found["aesthetic"].scored == sum(found["aesthetic"].histogram.before) == rows
    else:
        assert "aesthetic" not in found  # nothing to draw
    assert found["watermark"].scored == rows
