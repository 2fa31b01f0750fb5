"""What was written down before anything was seen: verdict, number of seeds, what is asked, and the arms themselves.

Who has seen results and then changes what is claimed, or what is compared, can make a verdict of anything. A change is
no error, for it may have good reasons, but the report tells it. Called by `pipelines/ablate.py` before students are
made, and after.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from curation.ablate.arms import flatten
from curation.ablate.measure import evaluation_identity
from curation.config.ablate import AblateConfig
from curation.errors import StorageError
from curation.storage import Folder
from curation.text import all_without_secrets

REGISTERED = "registered.json"
_DECIDES = {"seed", "seeds", "fairness", "evaluation", "verdict"}
_SPEED = re.compile(
    r"(?:^|\.)run(?:\.|$)|^output$"
    r"|^train\.(?:grids|data\.workers|loop\.(?:log_every|checkpoint_every|keep|compile|gradient_checkpointing))(?:\.|$)"
)
"""Paths of a curation or, behind `train.`, of a training that decide nothing."""
_FILES = ("prompts", "reference")
"""Of the evaluation's identity: what files hold, where settings have their names alone."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting that became another one when there were results to be seen."""

    path: str
    """Dotted."""
    students: int
    """That had been evaluated by then."""
    before: Any
    """As in JSON; None where there was no such setting."""
    now: Any


def register(config: AblateConfig, evaluated: int) -> tuple[Change, ...]:
    """Keep the settings that decide the verdict, unless they are kept already; `evaluated`: students that are.

    Returns all changes up to now, of those that were made after a student was evaluated, though it may be gone since.
    Raises StorageError.
    """
    now = flatten(config.model_dump(mode="json", include=_DECIDES)) | _compared(config)
    identity = evaluation_identity(config.evaluation)
    now |= {f"evaluation.{name} (what it holds)": str(identity[name])[:12] for name in _FILES if name in identity}
    kept = _read(Path(config.output) / REGISTERED)
    if kept:  # whatever is to be seen now was made by the settings before
        kept[-1]["seen"] = max(kept[-1]["seen"], evaluated)
    if not kept or kept[-1]["settings"] != now:
        kept = [*(entry for entry in kept if entry["seen"]), {"seen": 0, "settings": now}]
    Folder(config.output).write_json(REGISTERED, kept)
    return tuple(
        Change(path=path, students=first["seen"], before=before, now=after)
        for first, later in pairwise(kept)
        for path in dict.fromkeys([*first["settings"], *later["settings"]])
        if (before := first["settings"].get(path)) != (after := later["settings"].get(path))
    )


def _compared(config: AblateConfig) -> dict[str, Any]:
    """What the arms are made of, without what is speed only. Secrets of URLs are left out."""
    parts = {"base": config.base, **{f"arms.{name}": given for name, given in config.arms.items()}}
    for factor, levels in config.grid.items():
        parts |= {f"grid.{factor}.{level}": given for level, given in levels.items()}
    found = {path: value for path, value in flatten(config.train, "train").items() if not _SPEED.search(path)}
    for where, given in parts.items():
        own = {path: value for path, value in flatten(given).items() if not _SPEED.search(path)}
        found |= {f"{where}.{path}".rstrip("."): value for path, value in own.items()}  # "" where nothing is overridden
    plain: dict[str, Any] = json.loads(json.dumps(all_without_secrets(found)))  # as it is read again: no tuples
    return plain


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        kept: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from None
    return kept
