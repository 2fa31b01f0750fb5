"""The main job: config → stages, in the order of the journey, run by an engine and reported.

    from curation.load import load_config
    from pipelines.curate import plan, run

    result = run(load_config("configs/demo.yaml"), engine="local")
    print(result.corpus, result.report)

`curate run` and `curate plan` are these two calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from curation.caption.stage import CaptionStage
from curation.config import Config
from curation.encode.stage import Encode
from curation.errors import RunError
from curation.fetch.stage import FetchStage
from curation.fragments import Fragment, Manifest, committed
from curation.lock import alone
from curation.pack.captions import check_primary, check_told
from curation.pack.layout import Layout
from curation.pack.stage import Pack
from curation.report import write_report
from curation.row import CLIP_EMBEDDING, FETCH_FIELDS, Reason
from curation.run_log import RunLog
from curation.score.stage import ScoreStage
from curation.select.rules import check_rules, check_syntax
from curation.select.stage import Select
from curation.sources.source import Source
from curation.stage import Pooled, Solo, Stage
from curation.storage import Folder
from pipelines.engines import Engine, make_engine

log = logging.getLogger(__name__)


def make_stages(config: Config) -> list[Stage]:
    """The stages of a run, in the order of the journey. Reads the source's files for their signature."""
    output, stages = Folder(config.output), config.stages
    source = Source(output, config.sources)
    fetch = FetchStage(output, source, stages.fetch)
    journey: list[Stage] = [source, fetch]
    if stages.score is not None:
        journey.append(ScoreStage(output, journey[-1], stages.score, fetch.folder))
    journey.append(Select(output, journey[-1], stages.select))
    if stages.caption is not None:
        journey.append(CaptionStage(output, journey[-1], stages.caption, fetch.folder))
    layout = Layout(output, journey[-1], stages.pack, config.seed, fetch.folder)
    # what comes after pack decides nothing of its corpus
    told = config.model_dump(mode="json", exclude={"output": True, "stages": {"encode": True}})
    pack = Pack(output, layout, stages.pack, fetch.folder, told)
    journey += [layout, pack]
    if stages.encode is not None:
        whole = config.model_dump(mode="json", exclude={"output"})
        journey.append(Encode(output, pack, stages.encode, stages.pack.primary, whole))
    return journey


@dataclass(frozen=True)
class Planned:
    """What a run would do with one stage."""

    stage: str
    folder: str
    state: Literal["cached", "partly done", "to run"]
    rows: int | None
    """Rows in, where known."""
    kept: int | None
    """Rows kept, where known."""
    detail: str


def plan(config: Config) -> list[Planned]:
    """What is cached and what a run would do; starts nothing. Raises ConfigError for settings that cannot work."""
    stages = make_stages(config)
    _check(config, stages)
    _check_models(stages, online=False)
    planned: list[Planned] = []
    for stage in stages:
        folder = stage.folder.url.rsplit("/", 1)[-1]
        manifest = stage.manifest()
        stale = stage.stale() or any(p.state != "cached" for p in planned)  # the table will be another
        if manifest is not None and not stale:
            counts = manifest.counts
            planned.append(Planned(stage.name, folder, "cached", counts.rows, counts.kept, "nothing to do"))
            continue
        before = planned[-1].kept if planned else None
        done = len(committed(stage.folder)) if isinstance(stage, Pooled) and not stale else 0
        if done and isinstance(stage, Pooled) and before is not None:
            left, total = len(stage.unfinished()), len(stage.partitions())
            planned.append(
                Planned(stage.name, folder, "partly done", before, None, f"{left} of {total} partitions left")
            )
        else:
            planned.append(Planned(stage.name, folder, "to run", before, None, "all of it"))
    return planned


def _check(config: Config, stages: list[Stage]) -> None:
    """Refuse rules and operators that cannot work, as soon as the source's columns are known."""
    check_told(config)
    check_syntax(config.stages.select)
    source, fetch = stages[0], stages[1]
    listed = pa.schema([(name, pa.null()) for source in config.sources for name in source.columns.keep])
    for stage in stages:
        if isinstance(stage, CaptionStage):
            stage.check(listed)
    if source.manifest() is None:
        return
    schema = fetch.input_schema(FETCH_FIELDS)
    for stage in stages:
        if isinstance(stage, ScoreStage | CaptionStage):
            stage.check(schema)
            for field in stage.added:
                schema = schema.append(_planned(field))
        if isinstance(stage, Select):
            check_rules(config.stages.select, schema)
    check_primary(config.stages.pack, schema)
    for stage in stages:
        if isinstance(stage, Encode):
            stage.check(schema)


def _planned(field: pa.Field) -> pa.Field:
    """An embedding's length is known once its model was looked at, which a plan does not do on the hub: any will do."""
    unknown = field.name == CLIP_EMBEDDING and pa.types.is_list(field.type)
    return field.with_type(pa.list_(field.type.value_type, 1)) if unknown else field


def _check_models(stages: list[Stage], *, online: bool) -> None:
    """Refuse models that cannot be loaded; finished stages need theirs no more."""
    for stage in stages:
        if stage.manifest() is None:
            stage.check_models(online)


def _check_pools(session: Engine, stages: list[Stage]) -> None:
    """Refuse workers that the engine could never start, of all stages before the first one begins."""
    for stage in stages:
        if isinstance(stage, Pooled) and stage.manifest() is None:
            session.check(stage)


@dataclass(frozen=True)
class Result:
    """Where a finished run left things."""

    corpus: str
    """Folder of the corpus: shards, index, manifest; of tensors, where there is a stage `encode`."""
    report: str
    """Path of the HTML report."""
    manifest: Manifest
    """The corpus's manifest."""


class Watcher:
    """Hears how a run goes on; the default says nothing. `pipelines/progress.py` shows it to people."""

    def stage_starts(self, stage: Stage, rows: int | None, done: int) -> None:
        """A stage begins with `rows` input rows, of which `done` were committed by an earlier run."""

    def fragment(self, stage: Stage, fragment: Fragment) -> None:
        """A fragment was committed."""

    def stage_ends(self, stage: Stage, manifest: Manifest, seconds: float, cached: bool) -> None:
        """A stage is finished, or was already."""


def run(
    config: Config,
    *,
    engine: str = "ray",
    address: str | None = None,
    watcher: Watcher | None = None,
    make: Callable[[str, str | None], Engine] = make_engine,
) -> Result:
    """Run the journey; stages that are finished are not run again.

    Raises ConfigError before any work starts where it can, RunError when the run cannot go on. What was committed
    stays, and the same call goes on from there.
    """
    watcher = watcher or Watcher()
    stages = make_stages(config)
    _check(config, stages)
    _check_models(stages, online=True)
    with alone(config.output):
        return _run(config, stages, engine, address, watcher, make)


def _run(
    config: Config,
    stages: list[Stage],
    engine: str,
    address: str | None,
    watcher: Watcher,
    make: Callable[[str, str | None], Engine],
) -> Result:
    record = RunLog(config, engine, stages)
    session: Engine | None = None
    manifest: Manifest | None = None
    try:
        for stage in stages:
            stage.begin()
            manifest = stage.manifest()
            cached = manifest is not None
            if manifest is None and session is None:
                session = make(engine, address)
                _check_pools(session, stages)
            record.stage_starts(stage)
            if manifest is None:
                assert session is not None
                _run_stage(session, stage, watcher)
                manifest = stage.manifest()
                assert manifest is not None, f"stage {stage.name} left no manifest"
            seconds = record.stage_ends(stage, manifest, cached)
            watcher.stage_ends(stage, manifest, seconds, cached)
            log.info("%s: %s", stage.folder.url, manifest.counts)
            if stage is stages[0]:
                _check(config, stages)
            if not manifest.counts.kept:
                told = f"no row is left after stage {stage.name}: {_reasons(manifest)}"
                if _may_pass(manifest):
                    stage.clear()
                    told += "; all of that may pass, so the same command tries again"
                raise RunError(told)
        assert manifest is not None
        record.ends("done")
        report = write_report(Folder(config.output))
        return Result(stages[-1].folder.url, report, manifest)
    except BaseException as error:
        record.ends("failed" if isinstance(error, Exception) else "stopped", error)
        if isinstance(error, RunError):
            write_report(Folder(config.output))
        raise
    finally:
        if session is not None:
            session.close()


def _run_stage(engine: Engine, stage: Stage, watcher: Watcher) -> None:
    rows = stage.input().counts.kept if stage.upstream else None
    if isinstance(stage, Pooled):
        done = sum(p.rows for p in stage.partitions()) - sum(p.rows for p in stage.unfinished())
        watcher.stage_starts(stage, rows, done)
        engine.run_pool(stage, lambda fragment: watcher.fragment(stage, fragment))
    elif isinstance(stage, Solo):
        watcher.stage_starts(stage, rows, 0)
        engine.run_solo(stage)


def _may_pass(manifest: Manifest) -> bool:
    """Whether nothing but what lasts a while stood in the way: without a network, of every row."""
    reasons = manifest.counts.reasons
    return bool(reasons) and all(Reason(reason).transient for reason in reasons)


def _reasons(manifest: Manifest) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(manifest.counts.reasons.items(), key=lambda x: -x[1]))
