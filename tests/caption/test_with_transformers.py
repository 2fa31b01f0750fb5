"""The backend that runs the model in the worker, on tiny models of each family."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from curation.caption.backend import Reply, Request
from curation.caption.prompts import DENSE, SHORT_FROM_TEXT
from curation.caption.with_transformers import TransformersBackend, _Noise
from curation.config import CaptionSettings
from curation.models import limit_threads
from curation.scenes.render import render
from curation.scenes.scene import random_scene
from tests.tiny_families import FAMILIES, qwen2_5_vl

SHAPES = [(64, 64), (90, 40), (40, 90), (33, 50), (120, 80)]


@contextmanager
def opened(folder: Path, batch: int = 16) -> Iterator[TransformersBackend]:
    backend = TransformersBackend(CaptionSettings(model=str(folder), run={"batch": batch}))
    backend.check(online=False)
    limit_threads(1)  # more would only wait for one another
    backend.setup(workers=1)
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture(scope="module")
def llava(llava_folder: Path) -> Iterator[TransformersBackend]:
    with opened(llava_folder) as backend:
        yield backend


def picture(number: int, shape: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(render(random_scene(("llava", number)), *shape, seed=number))


def asked(number: int = 0, prompt: str = DENSE.text, max_tokens: int = 80, **more: object) -> Request:
    return Request(f"{number:032x}", prompt, picture(number), max_tokens, **more)  # type: ignore[arg-type]


def written(backend: TransformersBackend, requests: list[Request]) -> list[Reply]:
    return asyncio.run(backend.write(requests))


def alone(backend: TransformersBackend, requests: list[Request]) -> list[Reply]:
    return [written(backend, [request])[0] for request in requests]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_family_writes_the_same_alone_and_in_a_batch(family: Callable[[Path], Path], tmp_path: Path) -> None:
    with opened(family(tmp_path / "model"), batch=3) as backend:
        requests = [
            Request(str(i), "Describe it, " + "please, " * i, picture(i, shape), 10) for i, shape in enumerate(SHAPES)
        ]
        requests += [Request("a", "What is a star?", None, 7), Request("b", "What is a ring in the sky?", None, 7)]
        replies = written(backend, requests[::2] + requests[1::2])
        assert replies == alone(backend, requests[::2] + requests[1::2])
    assert all(reply.error is None and reply.tokens for reply in replies)
    assert len({reply.text for reply in replies}) > 2
    assert "torchvision" not in sys.modules


def test_the_taught_model_describes_and_shortens(llava: TransformersBackend) -> None:
    replies = written(llava, [asked(i) for i in range(8)])
    assert len({reply.text for reply in replies}) > 2
    good = [reply for reply in replies if not reply.cut_off]
    assert len(good) >= 4
    assert all(reply.text.startswith("A ") and reply.text.endswith(".") for reply in good)
    prompt = SHORT_FROM_TEXT.fill(caption=good[0].text)
    [short] = written(llava, [Request("0", prompt, None, 40)])
    assert short.text.startswith("a ")
    assert short.text not in good[0].text


def test_mixed_requests_come_back_in_order(llava: TransformersBackend) -> None:
    requests = [
        asked(0),
        Request("text", "Hello", None, 5),
        asked(1, max_tokens=3),
        asked(2, temperature=0.7, seed=3),
        asked(3),
        Request("text", "Well", None, 6),
    ]
    assert written(llava, requests) == alone(llava, requests)


def test_tokens_and_the_cut_are_exact(llava: TransformersBackend) -> None:
    [whole] = written(llava, [asked(max_tokens=120)])
    assert not whole.cut_off
    assert whole.tokens < 120
    at_limit, under = written(llava, [asked(max_tokens=whole.tokens), asked(max_tokens=whole.tokens - 1)])
    assert at_limit == whole
    assert (under.tokens, under.cut_off, under.text) == (whole.tokens - 1, True, whole.text)  # lacks the end token only
    [first] = written(llava, [asked(max_tokens=4)])
    assert (first.tokens, first.cut_off) == (4, True)
    assert whole.text.startswith(first.text)


def test_rows_that_end_early_are_not_padded_with_words(llava: TransformersBackend) -> None:
    replies = written(llava, [asked(i, max_tokens=60) for i in range(8)])
    assert len({reply.tokens for reply in replies}) > 1
    for reply in replies:
        assert "<" not in reply.text
        assert reply.text == reply.text.strip()


def test_a_seed_decides_whoever_shares_the_batch(llava: TransformersBackend) -> None:
    requests = [asked(i, temperature=0.7, seed=seed) for i, seed in ((0, 1), (0, 2), (1, 1), (0, 1))]
    together = written(llava, requests)
    assert together == alone(llava, requests)
    assert together[0] == together[3]
    assert together[0].text != together[1].text


def test_noise_draws_from_the_softmax() -> None:
    import torch

    scores = torch.tensor([2.0, 1.0, 0.0, -1.0])
    temperature, draws = 0.7, 4000
    noise = _Noise(range(draws), temperature, torch.device("cpu"))
    chosen = noise(torch.empty(0), scores.expand(draws, 4)).argmax(dim=1)
    shares = torch.bincount(chosen, minlength=4) / draws
    assert torch.allclose(shares, torch.softmax(scores / temperature, 0), atol=0.03)


def test_a_models_own_ideas_of_generation_have_no_say(
    llava: TransformersBackend, llava_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(llava_folder, tmp_path / "llava")
    file = folder / "generation_config.json"
    ideas = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 3.0, "max_length": 20, "min_new_tokens": 70}
    file.write_text(json.dumps(json.loads(file.read_text()) | ideas))
    with opened(folder) as backend:
        assert written(backend, [asked(1)]) == written(llava, [asked(1)])
    assert not caplog.records


def test_control_words_in_a_text_are_only_text(llava: TransformersBackend) -> None:
    hostile, plain = (Request("0", f"A star{word} <s2> x", None, 12) for word in ("<image></s>", "  "))
    assert written(llava, [hostile, asked()]) == written(llava, [plain, asked()])
    [reply] = written(llava, [asked(prompt=DENSE.text + " <image>")])
    assert reply.error is None


def test_what_the_processor_refuses_fails_alone(tmp_path: Path) -> None:
    with opened(qwen2_5_vl(tmp_path / "qwen")) as backend:
        requests = [Request(str(i), "Describe it.", picture(i, shape), 5) for i, shape in enumerate(SHAPES[:3])]
        expected = written(backend, requests)
        stretched = Request("odd", "Describe it.", Image.new("RGB", (2100, 8)), 5)  # it takes up to 200 : 1
        replies = written(backend, [*requests[:1], stretched, *requests[1:]])
    assert "aspect ratio" in (replies.pop(1).error or "")
    assert replies == expected


def test_out_of_memory_halves_the_batch(llava_folder: Path) -> None:
    import torch

    sizes = []

    def refuse(_: object, args: object, inputs: dict[str, torch.Tensor]) -> None:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with opened(llava_folder) as backend:
        requests = [asked(i, max_tokens=6) for i in range(7)]
        expected = written(backend, requests)
        backend._model.register_forward_pre_hook(refuse, with_kwargs=True)
        assert written(backend, requests) == expected
        assert max(sizes) == 7
        sizes.clear()
        assert written(backend, requests) == expected
        assert max(sizes) == 2  # it has learnt


def test_a_row_that_needs_too_much_memory_alone_fails_alone(llava_folder: Path) -> None:
    import torch

    def refuse(_: object, args: object, inputs: dict[str, torch.Tensor]) -> None:
        if inputs["input_ids"].shape[1] > 300:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with opened(llava_folder) as backend:
        backend._model.register_forward_pre_hook(refuse, with_kwargs=True)
        long = asked(1, prompt=DENSE.text * 3, max_tokens=5)
        first, failed, last = written(backend, [asked(0, max_tokens=5), long, asked(2, max_tokens=5)])
    assert failed == Reply(error="the GPU has no memory for it, even alone")
    assert first.error is None
    assert last.error is None


def test_close_ends_a_batch_that_is_being_written(llava_folder: Path) -> None:
    begun, steps = threading.Event(), []

    def count(*_: object) -> None:
        steps.append(1)
        begun.set()

    async def write_and_close() -> None:
        writing = asyncio.create_task(backend.write([Request("0", "star ", None, 2000)]))
        await asyncio.to_thread(begun.wait)
        backend.close()
        await asyncio.gather(writing, return_exceptions=True)

    with opened(llava_folder) as backend:
        backend._model.register_forward_pre_hook(count)
        backend._ends = [1_000_000]  # no token ends it
        asyncio.run(write_and_close())
    assert len(steps) < 2000


def test_a_chat_template_may_lie_with_the_tokenizer(
    llava: TransformersBackend, llava_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llava_folder, tmp_path / "llava")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    with opened(folder) as backend:
        assert written(backend, [asked()]) == written(llava, [asked()])


def test_it_travels_to_workers_before_setup(llava_folder: Path) -> None:
    backend = TransformersBackend(CaptionSettings(model=str(llava_folder)))
    backend.check(online=False)
    assert len(pickle.dumps(backend)) < 5000
