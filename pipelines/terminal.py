"""What a command owes whoever typed it: errors in one line, a log to look into, how to go on, and an exit code.

`curate` (`cli.py`) runs its commands in `run_command`.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from curation.errors import ConfigError, CurationError
from curation.text import printable

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_log_path = ""
_stopped_by = signal.SIGINT
_UsageError: Any = typer.BadParameter.__mro__[1]  # typer exports only its subclasses


def plain(text: str) -> str:
    """Words that may be anybody's, as a terminal may have them."""
    return escape(printable(text))


def log_to(output: str) -> None:
    """Log to a file of its own a run: below a local output, else in the temporary folder. Raises ConfigError."""
    global _log_path
    folder = Path(output) if "://" not in output else Path(tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "run.log", "a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise ConfigError("output", f"cannot write to {folder}: {error.strerror}") from None
    _log_path = str(folder / "run.log")
    # Native libraries (Ray's core, codecs) write to descriptor 2. The terminal is for people: into the log with it.
    err.file = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(file.fileno(), 2)
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


def run_command(app: typer.Typer) -> int:
    """Run what the arguments ask for; returns the exit code."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code = int(app(standalone_mode=False) or 0)
    except ConfigError as error:
        err.print(f"[bold red]config error[/] {plain(str(error))}")
        return 2
    except CurationError as error:
        if _log_path:
            logging.getLogger(__name__).exception("the run failed")
        err.print(f"[bold red]failed[/] {plain(str(error))}{_see_log()}")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except _UsageError as error:
        if told := error.format_message():  # else the help is on the screen
            command = error.ctx.command_path if error.ctx is not None else "curate"
            err.print(f"[bold red]wrong arguments[/] {plain(told)} See `{plain(command)} --help`.")
        return 2
    except Exception as error:
        if not _log_path:
            raise
        logging.getLogger(__name__).exception("bug")
        err.print(f"[bold red]failed[/] a bug: {plain(f'{type(error).__name__}: {error}')}{_see_log()}")
        return 1
    if code != 130:  # what the framework makes of KeyboardInterrupt
        return code
    err.print(f"stopped; committed work stays. Go on with:\n  {escape(shlex.join(['curate', *sys.argv[1:]]))}")
    return 128 + _stopped_by


def _on_sigterm(signum: int, frame: Any) -> None:
    """SIGTERM stops as Ctrl-C does: KeyboardInterrupt is the one exception that event loops let through at once."""
    global _stopped_by
    _stopped_by = signal.SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _see_log() -> str:
    return f" (log: {plain(_log_path)})" if _log_path else ""
