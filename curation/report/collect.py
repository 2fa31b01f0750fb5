"""From an output folder to what a report shows. Reads `run.json`, the stages' fragments, the image bank and the shards.

Works on finished runs and on ones that failed, were stopped or still go on: there, what is committed counts. Memory
does not grow with the corpus: DuckDB aggregates over Parquet, and only some dozens of rows come back.
"""

from __future__ import annotations

from typing import Literal

from curation.fragments import Counts
from curation.report.captioning import captioning
from curation.report.distributions import heat, histograms
from curation.report.encoding import encoding
from curation.report.facts import CorpusFacts, NetworkFacts, ReasonFacts, RunFacts, StageFacts
from curation.report.network import network
from curation.report.record import read_record
from curation.report.samples import Sampler
from curation.report.scores import score_columns, scoring
from curation.report.shards import Shards
from curation.report.tables import StageTable, Tables
from curation.row import Reason
from curation.storage import Folder


def collect(output: Folder) -> RunFacts:
    """Everything that the report of `output` shows.

    Raises ConfigError where `output` holds no run, and StorageError where a fragment that should be there is not.
    """
    record = read_record(output)
    seed = int(record.config.get("seed") or 0)
    with Tables(output) as tables:
        opened = [tables.open(stage) for stage in record.stages]
        stages = _funnel(opened)
        filled = {table.name: table for table in opened if table.columns}
        last = next(reversed(filled.values()), None)
        fetch, score, select = (filled.get(name) for name in ("fetch", "score", "select"))
        caption, pack, encode = (filled.get(name) for name in ("caption", "pack", "encode"))
        shards = Shards(tables, pack) if pack else None
        scores = score_columns(tables, fetch, score) if fetch and score else []
        samples = Sampler(tables, opened, seed).samples(stages, shards)
        return RunFacts(
            record=record,
            stages=stages,
            histograms=histograms(tables, fetch, last, record.config, frozenset(scores)) if fetch and last else (),
            heat=heat(tables, fetch, last, record.config) if fetch and last else None,
            network=network(tables, fetch) if fetch else NetworkFacts(),
            corpus=shards.facts() if shards else CorpusFacts(),
            kept=samples.kept if fetch else (),
            rejected=samples.rejected,
            scoring=scoring(tables, scores, score, select, record.config) if score else None,
            captioning=captioning(tables, caption, record.config) if caption else None,
            captioned=samples.captioned,
            encoding=encoding(tables, encode, record.config) if encode else None,
        )


def _funnel(opened: list[StageTable]) -> tuple[StageFacts, ...]:
    stages: list[StageFacts] = []
    for table in opened:
        counts = table.counts
        state: Literal["done", "unfinished", "not started"] = (
            "done" if table.manifest else "unfinished" if table.columns else "not started"
        )
        stages.append(
            StageFacts(
                name=table.name,
                folder=table.record.folder,
                state=state,
                cached=table.record.cached,
                seconds=table.record.seconds,
                rows_in=stages[-1].kept if stages else counts.rows,
                rows=counts.rows,
                kept=counts.kept,
                rejected=counts.rejected,
                failed=counts.failed,
                reasons=_reasons(counts),
            )
        )
    return tuple(stages)


def _reasons(counts: Counts) -> tuple[ReasonFacts, ...]:
    ordered = sorted(counts.reasons.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ReasonFacts(reason, Reason(reason).outcome, count) for reason, count in ordered)
