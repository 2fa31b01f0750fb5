"""The caption stage around a scripted model: columns and outcomes, what a crash loses, work in hand, and identity."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.caption.backend import Request
from curation.caption.stage import CaptionStage
from curation.errors import ConfigError, RunError
from curation.fetch.stage import FetchStage
from curation.fragments import committed, read_manifest
from curation.select.stage import Select
from curation.stage import kept_rows
from curation.storage import Folder
from pipelines.engines.local import LocalEngine
from tests.caption.scripted import DENSE, SHORT, Scripted, good, selected, settings

ROWS = 40
KEPT = 36
"""Of `ROWS`: every tenth is missing on the server."""
BATCH = 5


@dataclass(frozen=True)
class Given:
    select: Select
    fetch: FetchStage
    tokenizer: Path

    def rows(self) -> list[dict[str, Any]]:
        manifest = read_manifest(self.select.folder)
        assert manifest is not None
        return kept_rows(self.select.folder, [f.name for f in manifest.fragments]).to_pylist()

    def stage(self, output: Path, scripted: Scripted, **given: Any) -> CaptionStage:
        given = {"run": {"batch": BATCH}, **given}
        return CaptionStage(
            Folder(output), self.select, settings(self.tokenizer, **given), self.fetch.folder, backend=scripted
        )


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Iterator[Given]:
    with selected(ROWS, tmp_path_factory.mktemp("selected")) as (select, fetch):
        yield Given(select, fetch, clip_folder)


def work(stage: CaptionStage) -> list[int]:
    """Run the stage here; rows of the fragments that were committed, in order."""
    sizes: list[int] = []
    LocalEngine().run_pool(stage, lambda fragment: sizes.append(fragment.counts.rows))
    return sizes


def rows_of(stage: CaptionStage) -> list[dict[str, Any]]:
    manifest = read_manifest(stage.folder)
    assert manifest is not None
    tables = [stage.folder.read_table(fragment.name) for fragment in manifest.fragments]
    return sorted(pa.concat_tables(tables).to_pylist(), key=lambda row: row["uid"])


ENDPOINT = {"backend": "openai", "endpoint": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize("endpoint", [{}, ENDPOINT])
def test_columns_and_outcomes(given: Given, tmp_path: Path, endpoint: dict[str, str]) -> None:
    uids = sorted(row["uid"] for row in given.rows())
    bad, saved = uids[3], uids[7]

    def script(request: Request) -> str:
        if request.uid == bad or (request.uid == saved and request.image is None and not request.temperature):
            return "I'm sorry, I can't."
        return good(request)

    backend = Scripted(script)
    stage = given.stage(tmp_path, backend, kinds=["dense", "short"], **endpoint)
    work(stage)
    rows = {row["uid"]: row for row in rows_of(stage)}
    assert sorted(rows) == uids
    assert backend.closed
    row = rows[uids[0]]
    assert row["alt_text"].startswith("picture ")
    expected = {
        "caption_dense": DENSE,
        "caption_dense_model": "scripted",
        "caption_short": SHORT,
        "caption_short_model": "scripted",
        "captioning_tries": 1,
        "captioning_tokens": len(DENSE.split()) + len(SHORT.split()),
        "captioning_fused": False,
        "outcome": "kept",
    }
    assert {name: row[name] for name in expected} == expected
    stage.counter.setup()
    texts = (row["caption_dense"], row["caption_short"], row["alt_text"])
    counted = [row["caption_dense_tokens"], row["caption_short_tokens"], row["alt_text_tokens"]]
    assert counted == stage.counter.count(texts)
    assert min(counted) > 3
    assert (rows[bad]["outcome"], rows[bad]["reason"]) == ("rejected", "caption_refusal")
    assert rows[bad]["detail"].endswith("it wrote: I'm sorry, I can't.")
    assert rows[bad]["caption_dense"] is rows[bad]["caption_dense_tokens"] is rows[bad]["caption_dense_model"] is None
    assert (rows[bad]["captioning_tries"], rows[saved]["captioning_tries"], rows[saved]["outcome"]) == (2, 2, "kept")
    manifest = read_manifest(stage.folder)
    assert manifest is not None
    assert manifest.counts.sums["captioning_tries"] == KEPT + 2
    assert manifest.counts.sums["captioning_tokens"] == sum(row["captioning_tokens"] for row in rows.values())
    assert manifest.counts.sums["captioning_us"] > 0


def test_fragments_are_batches(given: Given, tmp_path: Path) -> None:
    backend = Scripted(good)
    assert work(given.stage(tmp_path, backend)) == [BATCH] * (KEPT // BATCH) + [KEPT % BATCH]
    assert [len(requests) for requests in backend.asked] == [BATCH] * (KEPT // BATCH) + [KEPT % BATCH]


def test_a_crash_loses_at_most_one_batch(given: Given, tmp_path: Path) -> None:
    def script(request: Request) -> str:
        if len(first.asked) == 4:
            raise RunError("the endpoint is gone")
        return good(request)

    first = Scripted(script)
    stage = given.stage(tmp_path, first)
    with pytest.raises(RunError, match="the endpoint is gone"):
        work(stage)
    done = sum(stage.folder.read_table(n).num_rows for names in committed(stage.folder).values() for n in names)
    assert done == 3 * BATCH
    second = Scripted(good)
    again = given.stage(tmp_path, second)
    assert again.folder.url == stage.folder.url
    work(again)
    assert len(second.requests) == KEPT - done
    asked = [request.uid for request in first.requests + second.requests]
    assert len(asked) == KEPT + BATCH
    undisturbed = given.stage(tmp_path / "other", Scripted(good))
    work(undisturbed)
    ignored = {"captioning_us"}
    assert [{k: v for k, v in row.items() if k not in ignored} for row in rows_of(again)] == (
        [{k: v for k, v in row.items() if k not in ignored} for row in rows_of(undisturbed)]
    )


def test_row_by_row_keeps_requests_in_flight_within_bounds(given: Given, tmp_path: Path) -> None:
    uneven = Scripted(good, delay=lambda request: 0.02 if request.uid[0] in "01234567" else 0.001)
    stage = given.stage(tmp_path, uneven, **ENDPOINT, run={"batch": BATCH, "concurrency": 8})
    sizes = work(stage)
    assert 4 < uneven.most_at_once <= 8
    assert all(len(requests) == 1 for requests in uneven.asked)
    assert sizes == [BATCH] * (KEPT // BATCH) + [KEPT % BATCH]
    assert len(rows_of(stage)) == KEPT


def test_row_by_row_stops_with_the_endpoint(given: Given, tmp_path: Path) -> None:
    def script(request: Request) -> str:
        if len(backend.requests) > 20:
            raise RunError("the key was refused")
        return good(request)

    backend = Scripted(script, delay=lambda request: 0.001)
    stage = given.stage(tmp_path, backend, **ENDPOINT, run={"batch": BATCH, "concurrency": 4})
    with pytest.raises(RunError, match="the key was refused"):
        work(stage)
    done = sum(stage.folder.read_table(n).num_rows for names in committed(stage.folder).values() for n in names)
    assert 20 - 4 <= done <= 20, "what is finished is committed, whatever comes then"
    second = Scripted(good)
    work(given.stage(tmp_path, second, **ENDPOINT, run={"batch": BATCH, "concurrency": 4}))
    assert len(second.requests) == KEPT - done


def test_damaged_pixels_fail_their_row_alone(given: Given, tmp_path: Path) -> None:
    row = given.rows()[4]
    bank = Path(shutil.copytree(given.fetch.folder.url, tmp_path / "bank"))
    data = bytearray((bank / row["tar"]).read_bytes())
    data[row["offset"] + 10] ^= 1
    (bank / row["tar"]).write_bytes(data)
    backend = Scripted(good)
    stage = CaptionStage(Folder(tmp_path), given.select, settings(given.tokenizer), Folder(bank), backend=backend)
    work(stage)
    (failed,) = [found for found in rows_of(stage) if found["outcome"] != "kept"]
    assert (failed["uid"], failed["reason"], failed["captioning_tokens"]) == (row["uid"], "bank_damaged", 0)
    assert len(backend.requests) == KEPT - 1


def test_pictures_are_scaled_to_the_largest_side(given: Given, tmp_path: Path) -> None:
    backend = Scripted(good)
    work(given.stage(tmp_path / "small", backend, max_side=100))
    assert {request.image.size for request in backend.requests if request.image} == {(100, 75)}
    backend = Scripted(good)
    work(given.stage(tmp_path / "whole", backend, max_side=4000))
    assert {request.image.size for request in backend.requests if request.image} == {(192, 144)}


def test_identity(given: Given, tmp_path: Path) -> None:
    def folder(**changed: Any) -> str:
        return given.stage(tmp_path, Scripted(good), **changed).folder.url

    plain, remote = folder(), folder(**ENDPOINT)
    assert folder(run={"batch": 99, "price_per_hour": 7}) == plain
    assert folder(token_limit=99) == plain
    assert folder(words={"dense": (5, 60), "short": (1, 2)}, prompts={"short": "unused"}) == plain
    assert folder(prompts={"dense": "Say what is there."}) != plain
    assert folder(model="other") != plain
    assert folder(words={"dense": (6, 60)}) != plain
    assert folder(backend="openai", endpoint="http://elsewhere/v1", api_key_env="OTHER") == remote


def test_a_local_model_is_known_by_its_files(given: Given, tmp_path: Path, clip_folder: Path) -> None:
    one, moved = (shutil.copytree(clip_folder, tmp_path / name / "vlm") for name in ("one", "moved"))
    stages = [given.stage(tmp_path, Scripted(good), model=str(path)) for path in (one, moved)]
    assert stages[0].folder.url == stages[1].folder.url
    assert stages[0].model_name == "vlm"
    (moved / "config.json").write_text("{}")
    assert given.stage(tmp_path, Scripted(good), model=str(moved)).folder.url != stages[0].folder.url


def test_columns_that_are_there_already_are_refused(given: Given, tmp_path: Path) -> None:
    stage = given.stage(tmp_path, Scripted(good))
    stage.check(given.select.schema)
    with pytest.raises(ConfigError, match="rows have columns caption_dense already") as caught:
        stage.check(pa.schema([("caption_dense", pa.string())]))
    assert caught.value.path == "stages.caption.kinds"


def test_pool(given: Given, tmp_path: Path) -> None:
    def pool(**run: Any) -> tuple[int, float, float]:
        wanted = given.stage(tmp_path, Scripted(good), run=run).pool(cpus=16, gpus=4)
        return wanted.workers, wanted.cpus, wanted.gpus

    assert pool() == (16, 1, 0)
    assert pool(workers=3) == (3, 1, 0)
    assert pool(gpus=1) == (4, 1, 1)
    assert pool(gpus=2) == (2, 1, 2)
    assert pool(gpus=0.5) == (8, 1, 0.5)
    assert pool(gpus=0.6) == (4, 1, 0.6)  # two of them do not share a GPU
