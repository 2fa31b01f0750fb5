"""What is claimed before anything was seen, and what is told of claims that were changed after."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.ablate.registered import REGISTERED, Change, register
from curation.config.ablate import AblateConfig
from curation.errors import StorageError
from curation.load import make
from tests.ablate.example import VERDICT, settings


def claimed(output: Path, primary: str, seeds: int = 5) -> AblateConfig:
    verdict = {**VERDICT, "primary": primary}
    return make(settings(output=str(output), verdict=verdict, seeds=seeds), model=AblateConfig)


def test_a_change_before_anything_was_seen_is_none(tmp_path: Path) -> None:
    assert register(claimed(tmp_path, "rich.share"), 0) == ()
    assert register(claimed(tmp_path, "rich.shape"), 0) == ()
    assert register(claimed(tmp_path, "rich.shape"), 4) == ()


def test_a_change_after_that_is_told_for_good(tmp_path: Path) -> None:
    register(claimed(tmp_path, "rich.share"), 0)
    assert register(claimed(tmp_path, "rich.share"), 10) == ()
    shape = Change(path="verdict.primary", students=10, before="rich.share", now="rich.shape")
    assert register(claimed(tmp_path, "rich.shape"), 10) == (shape,)
    more = Change(path="seeds", students=12, before=5, now=13)
    assert register(claimed(tmp_path, "rich.shape", seeds=13), 12) == (shape, more)
    back = Change(path="verdict.primary", students=26, before="rich.shape", now="rich.share")
    assert register(claimed(tmp_path, "rich.share", seeds=13), 26) == (shape, more, back)


def test_what_was_written_and_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / REGISTERED).write_text("[{")
    with pytest.raises(StorageError, match=REGISTERED):
        register(claimed(tmp_path, "rich.share"), 3)
