"""A run's facts → one HTML page that needs nothing else: no network, no script, no font, no file beside it.

Everything that came from outside (URLs, captions, details, column names, hosts) passes the template's autoescaping,
URLs are text and never links, and the page forbids itself all loading with a Content-Security-Policy.
"""

from __future__ import annotations

import base64
import platform
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup

import curation
from curation.report import charts, ridges, wording
from curation.report.facts import RunFacts, Sample, StageFacts, Thumbnail
from curation.report.page import as_yaml, page_environment
from curation.report.shapes import Heat, Histogram, Lengths
from curation.row import Reason
from curation.units import format_bytes

_HERE = Path(__file__).parent


def render(facts: RunFacts) -> str:
    """The page. The same facts give the same page."""
    environment = page_environment(_HERE)
    environment.filters.update(
        count=wording.count,
        size=format_bytes,
        rate=wording.rate,
        duration=wording.duration,
        moment=wording.moment,
        shown=wording.shown,
        shown_url=wording.shown_url,
        jpeg=_data_uri,
        reason_text=wording.reason_text,
        percent=_css_percent,
        price=wording.price,
    )
    environment.globals.update(share=wording.share, charts=charts, ridges=ridges, stage_texts=wording.STAGES)
    return environment.get_template("template.html").render(
        facts=facts,
        record=facts.record,
        headlines=_headlines(facts),
        seconds=wording.seconds_between(facts.record.started, facts.record.finished),
        config=as_yaml(facts.record.config),
        versions={
            **facts.record.versions,
            "report written by": f"curation {curation.__version__}, Python {platform.python_version()}",
        },
        most_statuses=max((n for _, n in facts.network.statuses), default=1),
        most_failed=max((host.failed for host in facts.network.hosts), default=1),
        bucket_sides=[side for w, h, _ in facts.corpus.buckets for side in (w, h)],
        most_in_bucket=max((n for _, _, n in facts.corpus.buckets), default=1),
        pictured=_pictured,
        needed=lambda sample, reason: _needed(sample, reason, facts.heat),
        median=_median,
        medians=_medians,
        spread=_spread,
        shape=_shape,
        lengths_of=lambda unit: (
            [(k.kind, getattr(k, unit)) for k in facts.captioning.kinds] if facts.captioning else []
        ),
    )


def _headlines(facts: RunFacts) -> list[tuple[str, str, str]]:
    """The numbers on top: value, name, remark."""
    fetch = next((stage for stage in facts.stages if stage.name == "fetch"), None)
    network, corpus = facts.network, facts.corpus
    done = facts.record.status == "done"
    whole = network.received + network.saved
    return [
        (
            wording.count(facts.rows_in),
            "rows in",
            f"from {wording.count(network.host_count)} hosts" if network.host_count else "",
        ),
        (
            wording.count(facts.rows_kept),
            "kept" if done else "kept so far",
            f"by {facts.reached.name}" if facts.reached else "",
        ),
        (wording.share(facts.rows_kept, facts.rows_in), "of the list", _lost(facts.stages)),
        (wording.rate(fetch.rows_per_s if fetch else None), "rows/s", "through fetch: network and image check"),
        (
            format_bytes(network.saved),
            "not downloaded",
            f"{wording.share(network.saved, whole)} of all bytes, by stopping early" if whole else "",
        ),
        (
            wording.count(corpus.shards),
            "shard" if corpus.shards == 1 else "shards",
            f"{format_bytes(corpus.bytes)}, {wording.count(corpus.samples)} samples" if corpus.shards else "none yet",
        ),
    ]


def _lost(stages: Iterable[StageFacts]) -> str:
    stages = list(stages)
    rejected, failed = sum(s.rejected for s in stages), sum(s.failed for s in stages)
    return f"{wording.count(rejected)} rejected, {wording.count(failed)} failed"


def _css_percent(part: float, whole: float) -> str:
    """A width for a style attribute."""
    return f"{100 * part / whole if whole else 0:.3f}%"


def _data_uri(thumbnail: Thumbnail) -> Markup:
    return Markup("data:image/jpeg;base64," + base64.b64encode(thumbnail.jpeg).decode("ascii"))


def _median(histogram: Histogram) -> str:
    """ "median 812 → 1,730"."""
    return f"median {' → '.join(_medians(histogram))}"


def _medians(histogram: Histogram) -> list[str]:
    """The medians of both, "–" for that of no rows."""
    medians = [histogram.median(counts) for counts in (histogram.before, histogram.after)]
    return ["–" if m is None else charts.axis_value(histogram, float(f"{m:.2g}")) for m in medians]


def _spread(lengths: Lengths) -> str:
    """ "9 · 12 · 31": what 5 %, half and 95 % of the captions do not exceed."""
    if not lengths.total:
        return "–"
    return " · ".join(wording.count(lengths.quantile(part) or 0) for part in (0.05, 0.5, 0.95))


def _shape(sample: Sample) -> float:
    """Width ÷ height of a sample's tile, within reason."""
    picture = sample.thumbnail
    return min(max(picture.width / picture.height, 0.45), 2.4) if picture else 1.0


def _needed(sample: Sample, reason: str, heat: Heat | None) -> tuple[int, int] | None:
    """The outline that an image of a dropped row had to cover (`min_side`) or to fit in (`max_aspect`), pixels."""
    if heat is None or not sample.width or not sample.height:
        return None
    if reason == Reason.TOO_SMALL and heat.min_side:
        return heat.min_side, heat.min_side
    if reason == Reason.ASPECT_TOO_EXTREME and heat.max_aspect:
        short = min(sample.width, sample.height)
        long = round(short * heat.max_aspect)
        return (long, short) if sample.width > sample.height else (short, long)
    return None


def _pictured(samples: Iterable[Sample]) -> bool:
    """True if there is something to see of any of these rows: pixels, or at least their size."""
    return any(s.thumbnail or (s.width and s.height) for s in samples)
