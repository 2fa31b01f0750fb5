"""kill -9 of a caption worker on Ray: what it had in hand is asked for again, and nothing else."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from curation.caption.backend import Backend, Reply, Request
from curation.caption.stage import CaptionStage
from curation.fetch.stage import FetchStage
from curation.fragments import read_manifest
from curation.select.stage import Select
from curation.storage import Folder
from pipelines.engines import Engine
from tests.caption.scripted import good, selected, settings

ROWS = 40
KEPT = 36
BATCH = 5
ASKING = {"backend": "openai", "endpoint": "http://127.0.0.1:9/v1", "run": {"batch": BATCH, "concurrency": 3}}
IN_HAND = 3 + 4
"""Requests at once, and rows that were finished but too few to be committed."""


class Mortal(Backend):
    """Notes whom it is asked for; its worker dies, once, when it has been asked for row number `fatal`."""

    def __init__(self, log: Path, fatal: int) -> None:
        self.log = log
        self.fatal = fatal

    def setup(self, workers: int) -> None:
        """Nothing to load."""

    async def write(self, requests: Sequence[Request]) -> list[Reply]:
        with open(self.log, "a") as file:
            file.writelines(f"{request.uid}\n" for request in requests)
        mark = self.log.with_suffix(".died")
        if len(self.log.read_text().split()) >= self.fatal and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [Reply(good(request), tokens=9) for request in requests]

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Select, FetchStage]]:
    with selected(ROWS, tmp_path_factory.mktemp("selected")) as stages:
        yield stages


def test_a_killed_worker_asks_again_for_what_it_had_in_hand(
    journey: tuple[Select, FetchStage], ray_engine: Engine, tmp_path: Path, clip_folder: Path
) -> None:
    select, fetch = journey
    log = tmp_path / "asked"
    stage = CaptionStage(
        Folder(tmp_path / "out"),
        select,
        settings(clip_folder, **ASKING),
        fetch.folder,
        backend=Mortal(log, fatal=4 * BATCH - 2),
    )
    ray_engine.run_pool(stage, lambda fragment: None)
    assert log.with_suffix(".died").exists()
    manifest = read_manifest(stage.folder)
    assert manifest is not None
    uids = pa.concat_tables([stage.folder.read_table(f.name, ["uid"]) for f in manifest.fragments])["uid"].to_pylist()
    asked = Counter(log.read_text().split())
    assert len(uids) == len(set(uids)) == KEPT
    assert set(asked) == set(uids)
    assert max(asked.values()) == 2
    assert 0 < asked.total() - KEPT <= IN_HAND
