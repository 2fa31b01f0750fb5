"""The backend that asks an endpoint: `transformers serve` with a real model, and an origin with bad days."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.caption.backend import Reply
from curation.caption.prompts import DENSE
from curation.caption.with_openai import IN_A_ROW, OpenAIBackend
from curation.caption.with_transformers import TransformersBackend
from curation.config import CaptionSettings
from curation.errors import RunError
from curation.models import limit_threads
from tests.caption.asking import backend, request, written
from tests.caption.chat_origin import Answer, chat_origin, cuts, drips, floods, gives, hangs, says

# The real server


def test_an_endpoint_writes_what_the_model_writes_in_the_worker(endpoint: str, llava_folder: Path) -> None:
    requests = [request(i, (90, 60), prompt=DENSE.text, max_tokens=70) for i in range(4)]
    requests += [request(4, prompt="Hello", max_tokens=5), request(5, (60, 90), prompt=DENSE.text, max_tokens=4)]
    local = TransformersBackend(CaptionSettings(model=str(llava_folder)))
    limit_threads(1)  # as the server: the last bits depend on their number
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
