"""Material that is too large for the repository: in the folder `CURATION_SHARED`, or `shared` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("CURATION_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def shared(name: str) -> Path:
    """The folder `name` of the shared material; skips the test, saying what is missing, where it is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"needs {path}, which is not on this machine")
    return path
