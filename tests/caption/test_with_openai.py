"""The backend that asks an endpoint: `transformers serve` with a real model, and an origin with bad days."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import logging
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.caption.backend import Reply, Request
from curation.caption.prompts import DENSE
from curation.caption.with_openai import IN_A_ROW, OpenAIBackend
from curation.caption.with_transformers import TransformersBackend
from curation.config import CaptionSettings
from curation.errors import ConfigError, RunError
from curation.scenes.render import render
from curation.scenes.scene import random_scene
from tests.caption.chat_origin import Answer, chat_origin, cuts, drips, floods, gives, hangs, says

KEY = "sk-tests-0123456789abcdef"
VARIABLE = "CAPTION_KEY"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def backend(endpoint: str, *, model: str = "tiny", workers: int = 1, **run: Any) -> OpenAIBackend:
    settings = CaptionSettings(
        backend="openai",
        endpoint=endpoint,
        model=model,
        api_key_env=VARIABLE,
        run={"retries": 2, "timeout_s": 20, "concurrency": 4, **run},
    )
    made = OpenAIBackend(settings, first_wait_s=0.01)
    made.setup(workers)
    return made


def request(number: int = 0, shape: tuple[int, int] | None = None, **more: Any) -> Request:
    image = Image.fromarray(render(random_scene(("llava", number)), *shape, seed=number)) if shape else None
    return Request(f"{number:032x}", more.pop("prompt", "Say something."), image, more.pop("max_tokens", 40), **more)


def written(backend: OpenAIBackend | TransformersBackend, *requests: Request) -> list[Reply]:
    async def write() -> list[Reply]:
        try:
            return await backend.write(requests or [request()])
        finally:
            if isinstance(backend, OpenAIBackend):
                backend.close()

    return asyncio.run(write())


# The real server


def test_an_endpoint_writes_what_the_model_writes_in_the_worker(endpoint: str, llava_folder: Path) -> None:
    requests = [request(i, (90, 60), prompt=DENSE.text, max_tokens=70) for i in range(4)]
    requests += [request(4, prompt="Hello", max_tokens=5), request(5, (60, 90), prompt=DENSE.text, max_tokens=4)]
    local = TransformersBackend(CaptionSettings(model=str(llava_folder)))
    local.setup(workers=1)
    expected = written(local, *requests)
    local.close()
    assert len({reply.text for reply in expected}) > 3
    assert written(backend(endpoint, model=str(llava_folder)), *requests) == expected


def test_a_real_server_takes_large_images_and_samples(endpoint: str, llava_folder: Path) -> None:
    made = backend(endpoint, model=str(llava_folder))
    made.check(online=True)
    [reply] = written(made, request(1, (640, 400), prompt=DENSE.text, temperature=0.7, seed=9))
    assert reply.error is None
    assert reply.text


def test_a_real_server_with_another_model_stops_the_run(endpoint: str) -> None:
    with pytest.raises(RunError, match=f"answered none of {IN_A_ROW} requests.*HTTP 400: Server is pinned"):
        written(backend(endpoint, model="another"), *map(request, range(20)))


# What is sent


def test_a_request_is_a_chat_completion_with_the_image_in_it() -> None:
    with chat_origin(says(" A ring.\n", tokens=7)) as origin:
        small, large = request(1, (60, 40)), request(2, (500, 300), temperature=0.7, seed=11, max_tokens=9)
        replies = written(backend(origin.url, concurrency=1), small, large, request(3, prompt="Shorten."))
    assert replies == [Reply("A ring.", tokens=7)] * 3
    first, second, third = origin.bodies
    assert {"model": "tiny", "max_tokens": 40, "temperature": 0.0}.items() <= first.items()
    assert "seed" not in first
    assert {"max_tokens": 9, "temperature": 0.7, "seed": 11}.items() <= second.items()
    shown = [body["messages"][0]["content"][0]["image_url"]["url"] for body in (first, second)]
    assert first["messages"][0]["content"][1] == {"type": "text", "text": "Say something."}
    assert third["messages"] == [{"role": "user", "content": "Shorten."}]
    for url, sent, kind in zip(shown, (small, large), ("png", "jpeg"), strict=True):
        head, _, data = url.partition(",")
        assert head == f"data:image/{kind};base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert sent.image is not None
        assert image.size == sent.image.size
        assert kind == "jpeg" or image.tobytes() == sent.image.tobytes()
    assert all("Authorization" not in headers for headers in origin.headers)


def test_the_cut_and_the_count_come_from_the_answer() -> None:
    answers = says("A ring", finish="length", tokens=40), says("A ring.", tokens=-1), says("\ud800!", tokens="many")
    with chat_origin(*answers) as origin:
        made = backend(origin.url)
        assert written(made) == [Reply("A ring", tokens=40, cut_off=True)]
        assert written(made) == [Reply("A ring.")]
        assert written(made) == [Reply("?!")]


def test_no_more_requests_at_once_than_the_workers_share() -> None:
    async def slow(asked: Any) -> Any:
        await asyncio.sleep(0.02)
        return await says()(asked)

    async def two_calls(made: OpenAIBackend) -> None:
        await asyncio.gather(made.write([request()] * 7), made.write([request()] * 7))
        made.close()

    with chat_origin(slow) as origin:
        asyncio.run(two_calls(backend(origin.url, workers=3, concurrency=9)))
    assert (len(origin.times), origin.most_at_once) == (14, 3)


# Bad days


@pytest.mark.parametrize(
    "fault", [gives(500), gives(503, b"<html>"), gives(429, {"error": "slow"}), cuts, hangs, drips]
)
def test_a_busy_or_broken_server_is_asked_again(fault: Answer) -> None:
    with chat_origin(fault, says()) as origin:
        patience = 1.0 if fault in (hangs, drips) else 20
        assert written(backend(origin.url, timeout_s=patience)) == [Reply("A red square.", tokens=5)]
    assert len(origin.times) == 2


def test_the_wait_is_the_one_that_the_server_asks_for() -> None:
    with chat_origin(gives(429, Retry_After="0.4"), says()) as origin:
        assert written(backend(origin.url))[0].error is None
    first, second = origin.times
    assert second - first >= 0.4


def test_a_row_that_the_server_fails_on_fails_alone() -> None:
    async def picky(asked: Any) -> Any:
        bad = "poison" in await asked.text()
        return await (gives(500, {"message": "it hurts"}) if bad else says())(asked)

    with chat_origin(picky) as origin:
        requests = [request(i, prompt="poison" if i == 3 else "Speak.") for i in range(30)]
        replies = written(backend(origin.url), *requests)
    assert replies.pop(3) == Reply(error="HTTP 500: it hurts")
    assert replies == [Reply("A red square.", tokens=5)] * 29
    assert len(origin.times) == 29 + 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (gives(400, {"error": {"message": "too\n long", "code": 3}}), "HTTP 400: too long"),
        (gives(413, b""), "HTTP 413"),
        (gives(422, {"detail": [{"loc": 1}]}), 'HTTP 422: [{"loc": 1}]'),
        (gives(200, b"{"), "the answer is not JSON"),
        (gives(200, b"[" * 200_000), "the answer is not JSON"),
        (gives(200, b"\xff\xfe\xfd"), "the answer is not JSON"),
        (gives(200, gzip.compress(b"{}"), Content_Encoding="gzip"), "the answer is not JSON"),
        (gives(200, []), "the answer is no chat completion"),
        (gives(200, {"choices": []}), "the answer is no chat completion"),
        (gives(200, {"choices": [{"message": {"content": "x"}}]}), "the answer is no chat completion"),
        (gives(200, {"choices": [{"message": "x", "finish_reason": "stop"}]}), "the answer is no chat completion"),
        (says(finish=None), "the answer does not say why it ended (finish_reason)"),
        (says(None, finish="content_filter"), "the answer holds no text (finish_reason: content_filter)"),
        (says([{"type": "text"}]), "the answer holds no text (finish_reason: stop)"),
        (floods, "an answer of more than 1,000,000 bytes"),
    ],
)
def test_what_no_second_try_mends_fails_the_row_at_once(answer: Answer, said: str) -> None:
    with chat_origin(answer, says()) as origin:
        assert written(backend(origin.url)) == [Reply(error=said)]
        assert len(origin.times) == 1


@pytest.mark.parametrize(("fault", "said"), [(hangs, "no answer within 0.4 s"), (drips, "no answer within 0.4 s")])
def test_after_all_tries_the_row_fails(fault: Answer, said: str) -> None:
    with chat_origin(fault) as origin:
        assert written(backend(origin.url, timeout_s=0.4, retries=1)) == [Reply(error=said)]
    assert len(origin.times) == 2


# What stops the run


def test_an_endpoint_that_is_not_there_stops_the_run_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(RunError, match=f"{address} cannot be reached: "):
            written(backend(address), request())


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
