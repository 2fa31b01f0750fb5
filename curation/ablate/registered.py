"""What was written down before anything was seen: verdict, number of seeds, and what is asked.

Who has seen results and then changes what is claimed can make a verdict of anything. A change is no error, for it may
have good reasons, but the report tells it. Called by `pipelines/ablate.py` before students are made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from curation.ablate.arms import flatten
from curation.config.ablate import AblateConfig
from curation.errors import StorageError
from curation.storage import Folder

REGISTERED = "registered.json"
_DECIDES = ("seed", "seeds", "fairness", "evaluation", "verdict")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting that became another one when there were results to be seen."""

    path: str
    """Dotted."""
    students: int
    """That were evaluated by then."""
    before: Any
    """As in JSON; None where there was no such setting."""
    now: Any


def register(config: AblateConfig, evaluated: int) -> tuple[Change, ...]:
    """Keep the settings that decide the verdict, unless they are kept already; `evaluated`: students that are.

    Returns all changes up to now, of those that were made after the first student was evaluated. Raises StorageError.
    """
    now = flatten(config.model_dump(mode="json", include=set(_DECIDES)))
    try:
        kept = json.loads((Path(config.output) / REGISTERED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        kept = []
    except (OSError, ValueError) as error:
        raise StorageError(f"{config.output}/{REGISTERED} cannot be read: {error}") from None
    if not evaluated:  # nobody has seen anything
        kept = []
    if not kept or kept[-1]["settings"] != now:
        kept = [*kept, {"students": evaluated, "settings": now}]
        Folder(config.output).write_json(REGISTERED, kept)
    return tuple(
        Change(path=path, students=later["students"], before=before, now=after)
        for first, later in pairwise(kept)
        for path in dict.fromkeys([*first["settings"], *later["settings"]])
        if (before := first["settings"].get(path)) != (after := later["settings"].get(path))
    )
