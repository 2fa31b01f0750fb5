"""Shards in, distilled student out.

    python train_hook.py configs/training/koala_700m.yaml --corpus runs/laion-hr [--set loop.steps=1000] [--output DIR]

The same entry works under `accelerate launch` and `torchrun`, which start it once a process; `pipelines.train`
starts it on Ray Train. Run again, it goes on from its last checkpoint. As a Python call: `curation.train.run.train`.

Exit codes: 0 done; 1 the run failed; 2 the config or the arguments are wrong; 130 or 143 stopped by Ctrl-C or SIGTERM,
after a checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from curation.errors import ConfigError, CurationError
from curation.load import load_train_config
from curation.models import check_training
from curation.text import printable
from curation.units import format_bytes

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
log = logging.getLogger("train_hook")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train_hook.py", description="Distil a text-to-image teacher into a student, on packed shards."
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file with the settings")
    parser.add_argument(
        "--corpus", action="append", default=[], metavar="DIR", help="packed corpus, or a run's output; may be repeated"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting: loop.steps=1000"
    )
    parser.add_argument("--output", metavar="DIR", help="override `output`")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    try:
        return _train(given)
    except ConfigError as error:
        err.print(f"[bold red]config error[/] {escape(printable(str(error)))}")
        return 2
    except CurationError as error:
        log.exception("the run failed")
        err.print(f"[bold red]failed[/] {escape(printable(str(error)))}{_see_log()}")
        return 1
    except KeyboardInterrupt:  # while packages are imported: later ones end a step first
        err.print(f"stopped before the first step. Go on with:\n  {escape(shlex.join(['python', *sys.argv]))}")
        return 130
    except Exception as error:
        if not logging.getLogger().handlers:
            raise
        log.exception("the run failed")
        err.print(f"[bold red]failed[/] {escape(printable(_told(error)))}{_see_log()}")
        return 1


def _told(error: Exception) -> str:
    """What an error that is none of ours says: memory that is not there, else a bug."""
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "the device has too little memory: a smaller data.batch with more loop.accumulate, "
            "loop.gradient_checkpointing, or a corpus with a stage `encode` takes less"
        )
    return f"a bug: {type(error).__name__}: {error}"


def _see_log() -> str:
    files = [
        handler.baseFilename for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)
    ]
    return f" (log: {escape(files[0])})" if files else ""


def _train(given: argparse.Namespace) -> int:
    from curation.stream.corpus import corpus_setting

    sets = [*corpus_setting(given.corpus), *given.set]
    if given.output:
        sets.append(f"output={given.output}")
    config = load_train_config(given.config, sets)
    _log_to(Path(config.output))
    # They tell of a package that only GPUs need; and a bar for each file that is loaded is no news.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    check_training()
    # torch and diffusers take seconds to import: not before the settings are right
    from curation.train.run import train
    from curation.train.terminal import Stopped, Terminal

    terminal = Terminal(out)
    try:
        result = train(config, terminal)
    except Stopped as stopped:
        terminal.close()
        err.print(f"stopped; the steps are in a checkpoint. Go on with:\n  {escape(shlex.join(['python', *sys.argv]))}")
        return 128 + stopped.signum
    except KeyboardInterrupt:
        terminal.close()
        err.print(
            f"stopped at once. Go on from the last checkpoint with:\n  {escape(shlex.join(['python', *sys.argv]))}"
        )
        return 130
    finally:
        terminal.close()
    if os.environ.get("RANK", "0") != "0":
        return 0
    facts = result.facts
    out.print(
        f"{facts['steps']:,} steps, {facts['samples']:,} samples, {facts['seconds']:.0f} s, "
        f"{format_bytes(facts['peak_memory'])} at most"
    )
    out.print(f"model   {escape(str(result.model))}")
    out.print(f"report  {escape(str(result.report))}")
    return 0


def _log_to(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    except OSError as error:
        raise ConfigError("output", f"cannot write to {folder}: {error.strerror}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
