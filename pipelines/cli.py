"""`curate …`: the commands. Each is a few lines over a documented Python call.

Exit codes: 0 done; 1 the run failed (one line, log path named); 2 the config or the arguments are wrong; 130 or 143
stopped by Ctrl-C or SIGTERM (committed work stays, and the command that goes on is printed).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from curation.errors import ConfigError
from curation.load import load_config
from curation.models import check_training
from curation.units import format_bytes
from pipelines.terminal import log_to, out, plain, run_command

app = typer.Typer(
    name="curate",
    help="Build text-to-image corpora from image URLs, with every row accounted for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file with the settings.")]
OutputFolder = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="A run's output folder or URL.", callback=os.path.expanduser)
]
Sets = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting by its dotted path; may be repeated."),
]
OutputOption = Annotated[str | None, typer.Option("--output", help="Override `output`.")]


def _given(sets: list[str], output: str | None) -> list[str]:
    return [*sets, *([] if output is None else [f"output={output}"])]


@app.command()
def run(
    config: ConfigFile,
    sets: Sets = [],  # noqa: B006  typer reads the default
    output: OutputOption = None,
    engine: Annotated[str, typer.Option(help="`ray`, or `local`: one process, for small jobs.")] = "ray",
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it one starts here.")] = None,
) -> None:
    """Run the journey from source to shards; finished stages are not run again."""
    _check_engine(engine, address)
    settings = load_config(config, _given(sets, output))
    log_to(settings.output)
    from pipelines.curate import run as run_journey
    from pipelines.progress import Progress

    progress = Progress(out)
    try:
        result = run_journey(settings, engine=engine, address=address, watcher=progress)
    finally:
        progress.stop()
    corpus = result.manifest.extra["corpus"]
    size = format_bytes(sum(shard["bytes"] for shard in corpus["shards"]))
    out.print(f"corpus  {escape(result.corpus)}  ({result.manifest.counts.kept:,} samples, {size})")
    out.print(f"report  {escape(result.report)}")


@app.command()
def plan(
    config: ConfigFile,
    sets: Sets = [],  # noqa: B006
    output: OutputOption = None,
) -> None:
    """Print the stages, what is cached, and what a run, or an ablation, would do; starts nothing."""
    if _is_ablation(config):
        from pipelines.ablate_plan_text import show_plan

        return show_plan(_load_ablation(config, sets, output), out)
    from curation.pack.buckets import least_side
    from pipelines.curate import plan as plan_journey

    settings = load_config(config, _given(sets, output))
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "state", "rows", "kept", "what is left", "folder"):
        table.add_column(name, justify="right" if name in ("rows", "kept") else "left")
    for p in plan_journey(settings):
        rows, kept = ("?" if n is None else f"{n:,}" for n in (p.rows, p.kept))
        table.add_row(p.stage, p.state, rows, kept, p.detail, escape(p.folder))
    out.print(f"output  {escape(settings.output)}")
    out.print(table)
    if settings.stages.fetch.min_side < (least := least_side(settings.stages.pack)):
        told = "layout rejects pictures whose shorter side is under"
        out.print(f"note    {told} {least} pixels, after all else was paid for: stages.fetch.min_side={least}")


@app.command()
def train(
    config: ConfigFile,
    corpus: Annotated[
        list[str], typer.Option("--corpus", metavar="DIR", help="Packed corpus, or a run's output; may be repeated.")
    ] = [],  # noqa: B006
    sets: Sets = [],  # noqa: B006
    output: OutputOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    gpus: Annotated[bool, typer.Option("--gpus", help="A GPU for each.")] = False,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it one starts here.")] = None,
) -> None:
    """Train on Ray Train, as train_hook.py does in one process; goes on from the last checkpoint."""
    from curation.load import load_train_config
    from curation.stream.corpus import corpus_setting

    given = [*corpus_setting(corpus), *_given(sets, output)]
    settings = load_train_config(config, given)
    check_training()
    log_to(settings.output)
    from curation.train.terminal import Shown
    from pipelines.train import train_on_ray

    with Shown(out) as shown:
        facts = train_on_ray(settings, workers=workers, gpus=gpus, address=address, watcher=shown)
    out.print(f"{facts['steps']:,} steps, {facts['samples']:,} samples, {facts['seconds']:.0f} s")
    out.print(f"model   {escape(settings.output)}/model")
    out.print(f"report  {escape(settings.output)}/report.html")


@app.command()
def ablate(
    config: ConfigFile,
    sets: Sets = [],  # noqa: B006
    output: OutputOption = None,
    engine: Annotated[str, typer.Option(help="`ray`, or `local`: one student after another.")] = "ray",
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it one starts here.")] = None,
) -> None:
    """Test a claim about data: arms, corpora, students, verdict; what is finished is not done again."""
    _check_engine(engine, address)
    settings = _load_ablation(config, sets, output)
    check_training()
    log_to(settings.output)
    from pipelines.ablate_progress import ablate_and_show

    ablate_and_show(settings, engine, address, out)


@app.command()
def explain(
    output: OutputFolder,
    row: Annotated[str, typer.Argument(metavar="URL|UID", help="A row's URL or its uid.")],
) -> None:
    """Print a row's whole journey."""
    from curation.explain import explain as explain_row
    from curation.storage import Folder

    for step in explain_row(Folder(output), row):
        out.print(escape(step.text(max(out.width, 60))))


@app.command()
def report(output: OutputFolder) -> None:
    """Write the HTML report of the last run again."""
    from curation.report import write_report
    from curation.storage import Folder

    out.print(escape(write_report(Folder(output))))


@app.command()
def index(
    folder: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="Folder or URL with WebDataset tars.", callback=os.path.expanduser),
    ],
    resolution: Annotated[
        int, typer.Option(min=16, max=8192, help="Aspect buckets hold about this many pixels squared.")
    ] = 1024,
) -> None:
    """Write an index for tars that were packed elsewhere, so that training can stream them."""
    from curation.stream.foreign import index_tars

    corpus = index_tars(folder, resolution)
    out.print(f"{corpus['samples']:,} samples in {len(corpus['shards']):,} tars, {corpus['left_out_count']:,} left out")
    for left in corpus["left_out"][:10]:
        out.print(plain(f"  {left['shard']}: {left['key'] or 'damage'}: {left['why']}"))


@app.command()
def fsck(
    output: OutputFolder,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every image and shard and check its hash.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Remove files that nothing names.")] = False,
) -> None:
    """Check that every row is accounted for and that what is stored is what was committed."""
    from curation.fsck import fsck as check
    from curation.storage import Folder

    findings = check(Folder(output), deep=deep, repair=repair)
    for finding in findings:
        out.print(plain(finding.text()))
    wrong = [finding for finding in findings if finding.wrong]
    out.print(f"{len(wrong)} faults, {len(findings) - len(wrong)} notes" if findings else "clean")
    if wrong:
        raise typer.Exit(1)


def _check_engine(engine: str, address: str | None) -> None:
    if engine not in ("ray", "local"):
        raise ConfigError("--engine", f"{engine!r} is no engine; choose ray or local")
    if engine == "local" and address is not None:
        raise ConfigError("--address", "is of a Ray cluster; --engine local does without Ray")


def _load_ablation(config: Path, sets: list[str], output: str | None) -> Any:
    from curation.ablate.arms import load_ablate_config

    return load_ablate_config(config, _given(sets, output))


def _is_ablation(config: Path) -> bool:
    """An ablation's settings have arms. What cannot be read is for the loader to complain about."""
    try:
        return bool(re.search(r"^(arms|grid):", config.read_text(encoding="utf-8"), re.MULTILINE))
    except (OSError, UnicodeDecodeError):
        return False


def main() -> None:
    """Entry point of `curate`."""
    sys.exit(run_command(app))


if __name__ == "__main__":
    main()
