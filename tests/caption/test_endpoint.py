"""An endpoint as a whole: what stops a run, where the key goes, what is said before any work, and runs with one."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from curation.caption.with_openai import IN_A_ROW, OpenAIBackend
from curation.config import CaptionSettings
from curation.errors import ConfigError, RunError
from curation.fragments import committed, read_manifest
from pipelines.curate import run
from tests.caption.asking import VARIABLE, backend, request, written
from tests.caption.chat_origin import Answer, chat_origin, cuts, gives, says
from tests.journey import config, stage_folder
from tests.small_origin import small_origin

KEY = "sk-tests-0123456789abcdef"
ROWS = 30


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


# What stops the run


def test_an_endpoint_that_is_not_there_stops_the_run_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(RunError, match=f"{address} cannot be reached: "):
            written(backend(address), request())


def test_an_endpoint_that_goes_away_in_the_middle_is_no_rows_fault() -> None:
    answered = asyncio.Event()

    async def waits(asked: web.Request) -> web.StreamResponse:
        await answered.wait()
        return await cuts(asked)

    async def answers(asked: web.Request) -> web.StreamResponse:
        answered.set()
        return await says()(asked)

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with chat_origin(waits, answers) as origin:
            made = backend(origin.url, retries=1)
            made._first_wait_s = 0.5
            gone = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"

            async def write() -> None:
                slow = asyncio.create_task(made.write([request(1)]))
                while not origin.times:
                    await asyncio.sleep(0.01)
                assert [reply.error for reply in await made.write([request(2)])] == [None]
                made._endpoint = gone
                try:
                    await slow
                finally:
                    made.close()

            with pytest.raises(RunError, match=f"{gone} cannot be reached"):
                asyncio.run(write())


@pytest.mark.parametrize("fault", [gives(502), cuts])
def test_an_endpoint_that_goes_away_stops_the_run(fault: Answer) -> None:
    with chat_origin(says(), says(), fault) as origin:
        made = backend(origin.url, retries=1)
        assert [reply.error for reply in written(made, request(), request())] == [None, None]
        for _ in range(IN_A_ROW - 1):
            assert written(made)[0].error
        with pytest.raises(RunError, match=f"answered none of {IN_A_ROW} requests in a row"):
            written(made)


def test_an_endpoint_that_answers_nonsense_from_the_start_stops_the_run() -> None:
    with chat_origin(gives(200, b"<html>")) as origin, pytest.raises(RunError, match="the answer is not JSON"):
        written(backend(origin.url), *[request()] * IN_A_ROW)


def test_refusals_of_rows_do_not_stop_a_run_that_works() -> None:
    with chat_origin(says(), gives(400)) as origin:
        replies = written(backend(origin.url, concurrency=1), *[request()] * (2 * IN_A_ROW))
    assert sum(reply.error is not None for reply in replies) == 2 * IN_A_ROW - 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (gives(404, {"message": "no such model"}), "has no chat completions of tiny: HTTP 404: no such model"),
        (gives(405), "has no chat completions of tiny: HTTP 405"),
        (gives(307, Location="http://127.0.0.1:9/v1/chat/completions"), "has no chat completions of tiny: HTTP 307"),
    ],
)
def test_a_wrong_address_stops_the_run(answer: Answer, said: str) -> None:
    with chat_origin(answer) as origin, pytest.raises(RunError, match=said):
        written(backend(origin.url))


# The key


def test_the_key_goes_into_one_header_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, f" {KEY}\n")
    caplog.set_level(logging.DEBUG)
    echo = gives(400, {"error": {"message": f"you said {'x' * 280} {KEY}"}})
    with chat_origin(says(), echo, gives(403, {"message": KEY}), models=gives(200, {"data": []})) as origin:
        made = backend(origin.url)
        made.check(online=True)
        [good], [bad] = written(made), written(made)
        with pytest.raises(RunError, match=f"refuses the key in {VARIABLE}") as refused:
            written(made)
    assert [headers["Authorization"] for headers in origin.headers] == [f"Bearer {KEY}"] * 4
    assert good.error is None
    assert bad.error is not None
    kept = (pickle.dumps(backend(origin.url)), repr(vars(made)), repr(bad), str(refused.value), caplog.text)
    assert all(KEY[:12] not in str(text) for text in (*kept, json.dumps(origin.bodies)))


def test_a_server_that_wants_a_key_says_which_variable() -> None:
    with chat_origin(gives(401)) as origin, pytest.raises(RunError, match=f"wants a key.*{VARIABLE}"):
        written(backend(origin.url))


def test_a_key_that_stayed_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    made = pickle.loads(pickle.dumps(backend("http://127.0.0.1:9/v1")))
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(RunError, match=f"{VARIABLE} is set where the run was started, but not on this worker"):
        made.setup(workers=2)


# Before any work


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:8000/v1", "ftp://host/v1", "http://", "http:///v1", "http://[::1/v1", "http://host:99999/v1"),
        *("http://u:p@host/v1", "http://host/v1?key=x", "http://host/v1#x"),
    ],
)
def test_an_address_that_cannot_work(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backend(address).check(online=False)
    assert caught.value.path == "stages.caption.endpoint"
    assert "u:p" not in caught.value.problem


def test_a_key_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    made = backend("http://127.0.0.1:9/v1")
    monkeypatch.setenv(VARIABLE, f"{KEY}\r\nHost: x")
    with pytest.raises(ConfigError, match=r"stages\.caption\.api_key_env: ") as caught:
        made.check(online=False)
    assert KEY not in str(caught.value)
    with pytest.raises(RunError, match="no key has"):
        made.setup(workers=1)


@pytest.mark.parametrize("given", [KEY, "hf_AbCdEf0123456789", ""])
def test_a_key_in_place_of_its_variable_is_refused_unseen(given: str) -> None:
    settings = CaptionSettings(backend="openai", endpoint="http://127.0.0.1:9/v1", model="tiny", api_key_env=given)
    with pytest.raises(ConfigError, match="it is not the key") as caught:
        OpenAIBackend(settings).check(online=False)
    assert caught.value.path == "stages.caption.api_key_env"
    assert not given or given not in str(caught.value)


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        (gives(404), None),
        (gives(500), None),
        (gives(200, b"<html>"), None),
        (gives(200, {"data": []}), None),
        (gives(200, {"data": [{"id": "other"}, {"id": "tiny"}]}), None),
        (
            gives(200, {"data": [{"id": "other"}, {"id": "more"}]}),
            "stages.caption.model: the endpoint serves other, more",
        ),
        (gives(401), f"stages.caption.api_key_env: .* wants a key: .*{VARIABLE}"),
        (gives(503), "stages.caption.endpoint: .* is not ready: HTTP 503"),
    ],
)
def test_the_look_at_the_endpoint(models: Answer, problem: str | None) -> None:
    with chat_origin(says(), models=models) as origin:
        if problem is None:
            backend(origin.url).check(online=True)
        else:
            with pytest.raises(ConfigError, match=problem):
                backend(origin.url).check(online=True)
    assert not origin.bodies


def test_the_look_at_an_endpoint_that_is_not_there() -> None:
    made = backend("http://127.0.0.1:9/v1")
    made.check(online=False)
    with pytest.raises(ConfigError, match=r"stages\.caption\.endpoint: http://127\.0\.0\.1:9/v1 cannot be reached"):
        made.check(online=True)


# Whole runs


DENSE = "A small red square stands on a plain blue background, and soft light falls on it from above."
SHORT = "A red square on blue."


async def captions(asked: web.Request) -> web.StreamResponse:
    """What a good model says to both prompts."""
    content = (await asked.json())["messages"][0]["content"]
    return await says(SHORT if isinstance(content, str) else DENSE)(asked)


def journey(listed: Path, output: Path, endpoint: str, tokenizer: Path, **run: Any) -> Any:
    caption = {
        "backend": "openai",
        "endpoint": endpoint,
        "model": "tiny",
        "api_key_env": VARIABLE,
        "kinds": ["dense", "short"],
        "words": {"dense": [5, 60], "short": [2, 30]},
        "max_side": 64,
        "tokenizer": str(tokenizer),
        "run": {"batch": 4, "concurrency": 3, "retries": 0, **run},
    }
    return config(
        listed,
        output,
        fetch={"min_side": 64},
        select={"dedup": {"exact": "none", "phash": None}},
        caption=caption,
        pack={"resolution": 64, "buckets": "none", "primary": "dense"},
    )


def test_no_file_of_a_run_holds_the_key(
    tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    caplog.set_level(logging.DEBUG)

    async def moody(asked: web.Request) -> web.StreamResponse:
        fails = len(origin.times) % 4 == 0
        return await (gives(400, {"message": f"{KEY} is not good enough"})(asked) if fails else captions(asked))

    with small_origin(ROWS, tmp_path / "list.parquet"), chat_origin(moody) as origin:
        run(journey(tmp_path / "list.parquet", tmp_path / "out", origin.url, clip_folder), engine="local")
    assert {headers["Authorization"] for headers in origin.headers if "Authorization" in headers} == {f"Bearer {KEY}"}
    manifest = read_manifest(stage_folder(tmp_path / "out", "caption"))
    assert manifest is not None
    assert manifest.counts.kept
    assert manifest.counts.failed
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(files) > 10
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    folder = stage_folder(tmp_path / "out", "caption")
    details = pa.concat_tables([folder.read_table(f.name) for f in manifest.fragments])["detail"].to_pylist()
    assert any("is not good enough" in (detail or "") for detail in details)
    assert KEY not in " ".join(detail or "" for detail in details)
    assert KEY not in caplog.text


def test_a_run_whose_endpoint_went_away_goes_on_at_another_one(tmp_path: Path, clip_folder: Path) -> None:
    listed, output = tmp_path / "list.parquet", tmp_path / "out"

    async def dies(asked: web.Request) -> web.StreamResponse:
        return await (gives(503)(asked) if len(origin.times) > 25 else captions(asked))

    with small_origin(ROWS, listed):
        with chat_origin(dies) as origin, pytest.raises(RunError, match="answered none of"):
            run(journey(listed, output, origin.url, clip_folder), engine="local")
        folder = stage_folder(output, "caption")
        kept = sum(folder.read_table(name).num_rows for names in committed(folder).values() for name in names)
        assert 0 < kept < ROWS * 9 // 10
        with chat_origin(captions) as origin:
            run(journey(listed, output, origin.url, clip_folder), engine="local")
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.counts.rows == ROWS * 9 // 10
    failed = manifest.counts.failed
    assert failed < IN_A_ROW + 3
    assert len(origin.times) == 2 * (manifest.counts.rows - kept)
