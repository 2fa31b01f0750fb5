"""What tests of the report ask of facts."""

from __future__ import annotations

from curation.report.facts import RunFacts
from curation.report.shapes import Histogram
from curation.row import Outcome


def histogram(facts: RunFacts, key: str) -> Histogram:
    return next(h for h in facts.histograms if h.key == key)


def check_funnel(facts: RunFacts) -> None:
    before = None
    for stage in facts.stages:
        assert stage.kept + stage.rejected + stage.failed == stage.rows
        assert stage.rows + stage.pending == stage.rows_in
        assert before is None or stage.rows_in == before
        for outcome, total in ((Outcome.REJECTED, stage.rejected), (Outcome.FAILED, stage.failed)):
            assert sum(r.count for r in stage.reasons if r.outcome is outcome) == total
        before = stage.kept
