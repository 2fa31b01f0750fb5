"""Captions in a report: lengths, what is cut off, what it took and cost, and samples good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.report.collect import collect
from curation.report.facts import RunFacts
from curation.report.model_facts import CaptioningFacts
from curation.report.samples import CAPTIONED_SAMPLES
from curation.report.shapes import Lengths
from curation.row import Reason
from curation.storage import Folder
from tests.report.make_models import KINDS
from tests.report.make_run import Made, make_run


def captioning(facts: RunFacts) -> CaptioningFacts:
    assert facts.captioning is not None
    return facts.captioning


def test_lengths_are_those_of_kept_captions(modelled: Made, modelled_facts: RunFacts) -> None:
    kept = modelled.kept("caption")
    kinds = captioning(modelled_facts).kinds
    assert [kind.kind for kind in kinds] == ["alt", *KINDS]
    for kind in kinds:
        text, tokens = ("alt_text", "alt_text_tokens") if kind.kind == "alt" else (f"caption_{kind.kind}",) * 2
        rows = [row for row in kept if row[text]]
        counts = [row[tokens if kind.kind == "alt" else f"{tokens}_tokens"] for row in rows]
        assert kind.captions == kind.words.total == kind.tokens.total == len(rows)
        assert sum(length * n for length, n in kind.words.counts) == sum(len(row[text].split()) for row in rows)
        assert sum(length * n for length, n in kind.tokens.counts) == sum(counts)
        assert kind.over_limit == sum(count > 77 for count in counts)
        assert kind.tokens.quantile(0.5) == sorted(counts)[(len(counts) - 1) // 2]
        assert kind.models == (() if kind.kind == "alt" else ("models/llava-tiny",))
    dense, short = kinds[1], kinds[3]
    assert dense.over_limit > short.over_limit == 0


def test_the_limit_is_the_students(tmp_path: Path, modelled: Made) -> None:
    made = make_run(Folder(tmp_path), models=True, rows=600, upto="caption", caption={"token_limit": 12})
    (short,) = (kind for kind in captioning(collect(made.output)).kinds if kind.kind == "short")
    assert 0 < short.over_limit == sum(row["caption_short_tokens"] > 12 for row in modelled.kept("caption"))


def test_what_captioning_took(modelled: Made, modelled_facts: RunFacts) -> None:
    rows = [row for row, _ in modelled.rows["caption"]]
    kept = modelled.kept("caption")
    found = captioning(modelled_facts)
    assert (found.rows, found.kept, found.captions) == (len(rows), len(kept), 3 * len(kept))
    assert found.tokens == sum(row["captioning_tokens"] for row in rows)
    assert found.worker_seconds == pytest.approx(sum(row["captioning_us"] for row in rows) / 1e6)
    assert (found.tried, found.retried) == (len(rows), sum(row["captioning_tries"] == 2 for row in rows))
    assert 0 < found.fused == sum(row["captioning_fused"] for row in kept)
    hours = sum(row["captioning_us"] for row in rows) / 3.6e9
    assert found.cost == pytest.approx(1.5 * hours)
    assert found.cost_per_1000(found.kept) == pytest.approx(1000 * 1.5 * hours / len(kept))


def test_the_price_is_that_of_all_gpus_of_a_worker(tmp_path: Path, modelled_facts: RunFacts) -> None:
    made = make_run(
        Folder(tmp_path), models=True, rows=600, upto="caption", caption={"run": {"price_per_hour": 1.5, "gpus": 2}}
    )
    assert captioning(collect(made.output)).cost == pytest.approx(2 * captioning(modelled_facts).cost)


def test_captioned_samples_have_all_their_texts(modelled: Made, modelled_facts: RunFacts) -> None:
    kept = {row["uid"]: row for row in modelled.kept("caption")}
    assert len(modelled_facts.captioned) == min(CAPTIONED_SAMPLES, len(kept))
    for sample in modelled_facts.captioned:
        row = kept[sample.uid]
        assert sample.thumbnail is not None
        texts = {text.kind: text for text in sample.texts}
        assert list(texts) == [*(["alt"] if row["alt_text"] else []), *KINDS]
        for kind in KINDS:
            assert (texts[kind].text, texts[kind].tokens) == (row[f"caption_{kind}"], row[f"caption_{kind}_tokens"])
        assert texts["dense"].similarity == pytest.approx(row["caption_dense_similarity"], rel=1e-6)
        names = {name for name, _ in sample.columns}
        assert {"aesthetic", "clip_similarity", "watermark", "sharpness"} <= names
        assert not any(name.startswith("caption") for name in names)


def test_rejected_captions_show_what_the_model_wrote(modelled_facts: RunFacts) -> None:
    groups = {group.reason: group for group in modelled_facts.rejected if group.stage == "caption"}
    (text,) = groups[Reason.CAPTION_REFUSAL].samples[0].texts
    assert (text.kind, text.text) == ("dense", "I'm sorry, but I can't help with describing this image.")
    assert groups[Reason.CAPTION_REFUSAL].samples[0].detail == "I'm sorry, but I can't"
    assert all(sample.thumbnail for group in groups.values() for sample in group.samples)


def test_no_caption_was_kept(tmp_path: Path) -> None:
    made = make_run(
        Folder(tmp_path),
        models=True,
        upto="caption",
        reject_all=Reason.CAPTION_EMPTY,
        reject_in="caption",
        status="failed",
    )
    facts = collect(made.output)
    found = captioning(facts)
    assert (found.kept, found.captions, facts.captioned) == (0, 0, ())
    assert found.cost > 0
    assert found.cost_per_1000(found.kept) is None
    assert all(kind.tokens.quantile(0.5) is None for kind in found.kinds)


def test_a_run_without_the_stage(facts: RunFacts) -> None:
    assert (facts.captioning, facts.captioned) == (None, ())


def test_quantiles() -> None:
    lengths = Lengths(((3, 1), (5, 2), (90, 1)))
    assert [lengths.quantile(part) for part in (0, 0.25, 0.5, 0.75, 0.76, 1)] == [3, 3, 5, 5, 90, 90]
    assert Lengths().quantile(0.5) is None
