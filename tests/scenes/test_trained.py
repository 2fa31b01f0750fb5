"""Finding a trained model: its folder, or a clear word on how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import RunError
from curation.scenes import trained


def test_a_model_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "MODELS", tmp_path)
    (tmp_path / "clip").mkdir()
    assert trained.model_folder("clip") == tmp_path / "clip"


def test_a_missing_model_names_the_command_that_trains_it() -> None:
    with pytest.raises(RunError, match="make zoo"):
        trained.model_folder("nothing")
