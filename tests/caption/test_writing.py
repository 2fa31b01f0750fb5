"""What is asked for and in what order; one retry with another seed; what becomes of texts that fail; names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.caption.backend import Reply, Request
from curation.caption.prompts import FUSE, prompts_of
from curation.caption.similarity import Similarity
from curation.caption.writing import RETRY_TEMPERATURE, Draft, Writer, retry_seed
from curation.config import ModelSettings
from curation.row import Reason
from tests.caption.scripted import DENSE, SHORT, Script, Scripted, good, grey, settings

CLIP = Path("not/asked/for")
REFUSAL = "I'm sorry, but I can't help with that."


def written(script: Script, *drafts: Draft, **given: Any) -> tuple[list[Draft], Scripted]:
    backend = Scripted(script)
    rows = list(drafts) or [Draft(f"{i:032x}", "", grey()) for i in range(3)]
    asyncio.run(Writer(settings(CLIP, **given), backend).write(rows))
    return rows, backend


def test_dense_from_the_image_then_shorter_ones_from_its_text() -> None:
    rows, backend = written(
        good, kinds=["short", "dense"], max_tokens={"dense": 99, "short": 9}, words={"dense": (5, 60), "short": (2, 9)}
    )
    assert [(row.texts, row.verdict, row.tries, row.fused) for row in rows] == (
        [({"dense": DENSE, "short": SHORT}, None, 1, False)] * 3
    )
    assert [row.tokens for row in rows] == [len(DENSE.split()) + len(SHORT.split())] * 3
    first, second = backend.asked
    assert all(r.image is not None and r.max_tokens == 99 for r in first)
    assert all(r.image is None and r.max_tokens == 9 and DENSE in r.prompt for r in second)
    assert all((r.temperature, r.seed) == (0.0, 0) for r in backend.requests)


def test_shorter_ones_from_the_image() -> None:
    given = {"kinds": ["dense", "short"], "shorten": "image", "words": {"short": (2, 60), "dense": (5, 60)}}
    _, backend = written(good, **given)
    assert all(r.image is not None and DENSE not in r.prompt for r in backend.requests)
    prompts = {"short": "Shorter: {caption}"}
    _, backend = written(good, **given, prompts=prompts)
    assert [r.prompt for r in backend.asked[1]] == [f"Shorter: {DENSE}"] * 3
    assert all(r.image is None for r in backend.asked[1])


def test_a_text_that_fails_is_written_once_more_with_another_seed() -> None:
    def script(request: Request) -> str:
        return REFUSAL if request.uid.endswith("1") and not request.temperature else DENSE

    rows, backend = written(script)
    assert [(row.tries, row.verdict, row.texts) for row in rows] == (
        [(1, None, {"dense": DENSE}), (2, None, {"dense": DENSE}), (1, None, {"dense": DENSE})]
    )
    first, second = backend.asked
    assert len(first) == 3
    (again,) = second
    assert (again.uid, again.prompt, again.temperature) == (rows[1].uid, first[1].prompt, RETRY_TEMPERATURE)
    assert again.seed == retry_seed(0, rows[1].uid, "dense") != first[1].seed
    assert rows[1].tokens == len(REFUSAL.split()) + len(DENSE.split())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(REFUSAL), Reason.CAPTION_REFUSAL),
        (Reply(""), Reason.CAPTION_EMPTY),
        (Reply("red " * 30), Reason.CAPTION_REPETITION),
        (Reply("A red square that has no end and goes on", cut_off=True), Reason.CAPTION_CUT_OFF),
        (Reply("Красный квадрат стоит на синем фоне."), Reason.CAPTION_WRONG_SCRIPT),
        (Reply("A red square."), Reason.CAPTION_TOO_SHORT),
        (Reply(" ".join(f"word{i}" for i in range(61))), Reason.CAPTION_TOO_LONG),
    ],
)
def test_a_second_failure_rejects_the_row_with_the_raw_text(reply: Reply, reason: Reason) -> None:
    rows, backend = written(lambda request: reply if request.uid.endswith("1") else DENSE, kinds=["dense", "short"])
    assert [row.verdict.reason if row.verdict else None for row in rows] == [None, reason, None]
    verdict = rows[1].verdict
    assert verdict is not None
    assert verdict.detail.startswith("dense: ")
    assert verdict.detail.endswith(f"it wrote: {reply.text}")
    assert (rows[1].texts, rows[1].tries) == ({}, 2)
    assert sum(r.uid == rows[1].uid for r in backend.requests) == 2  # no further kind is asked for


def test_the_second_reason_counts_and_any_kind_can_fail() -> None:
    def script(request: Request) -> str:
        if request.image is not None:
            return DENSE
        return REFUSAL if request.temperature else ""

    (row,), _ = written(script, Draft("a" * 32, "", grey()), kinds=["dense", "short"])
    assert row.verdict is not None
    assert (row.verdict.reason, row.verdict.detail[:6]) == (Reason.CAPTION_REFUSAL, "short:")


def test_an_error_of_the_backend_is_not_tried_again() -> None:
    error = Reply(error="status 500 after 5 tries")
    rows, backend = written(lambda request: error if request.uid.endswith("0") else DENSE)
    assert rows[0].verdict is not None
    assert rows[0].verdict.reason is Reason.CAPTION_BACKEND
    assert rows[0].verdict.detail == "dense: status 500 after 5 tries"
    assert len(backend.requests) == 3


def test_texts_without_meaning_in_unicode_can_be_stored() -> None:
    (row,), _ = written(lambda request: Reply("\ud83d"), Draft("a" * 32, "", grey()))
    assert row.verdict is not None
    row.verdict.detail.encode()


ALT = "a tower in Paris, photo by John Smith"
FUSED = DENSE.replace("plain blue background", "plain blue background in Paris")


def test_names_go_into_the_dense_caption_and_into_what_comes_from_it() -> None:
    def script(request: Request) -> str:
        return FUSED if "published with these names" in request.prompt else good(request)

    named, nameless = Draft("a" * 32, ALT, grey()), Draft("b" * 32, "a tower", grey())
    _, backend = written(script, named, nameless, keep_names=True, kinds=["dense", "short"])
    assert (named.texts["dense"], named.fused) == (FUSED, True)
    assert (nameless.texts["dense"], nameless.fused) == (DENSE, False)
    _, fusion, shorter = backend.asked
    assert [r.prompt for r in fusion] == [FUSE.fill(caption=DENSE, names="Paris")]
    assert fusion[0].image is None
    assert FUSED in shorter[0].prompt
    assert named.tokens == sum(len(text.split()) for text in (DENSE, FUSED, SHORT))


@pytest.mark.parametrize(
    "reply",
    [Reply(REFUSAL), Reply("Paris."), Reply(DENSE), Reply("The city of Paris is large and old."), Reply(error="x")],
)
def test_a_fusion_that_is_no_improvement_changes_nothing(reply: Reply) -> None:
    row = Draft("a" * 32, ALT, grey())
    written(lambda request: reply if request.image is None else DENSE, row, keep_names=True)
    assert (row.texts, row.fused, row.verdict, row.tries) == ({"dense": DENSE}, False, None, 1)


def test_similarity_to_the_image_is_a_check(clip_folder: Path) -> None:
    similarity = Similarity(ModelSettings(model=str(clip_folder)), gpus=0)
    similarity.setup()
    texts = [DENSE, "Green rings and yellow stars lie in rows on a white floor with dots."]

    async def cosines() -> list[float]:
        embeddings = list(await similarity.embed([Image.new("RGB", (40, 40), "red")])) * 2
        return await similarity.to_texts(embeddings, texts)

    by_cosine = dict(zip(asyncio.run(cosines()), texts, strict=True))
    low, high = sorted(by_cosine)
    middle = (low + high) / 2
    given = {"min_similarity": middle, "clip": {"model": str(clip_folder)}}

    def run(script: Script) -> Draft:
        row = Draft("a" * 32, "", Image.new("RGB", (40, 40), "red"))
        asyncio.run(Writer(settings(CLIP, **given), Scripted(script), similarity).write([row]))
        return row

    kept = run(lambda request: by_cosine[high])
    assert kept.verdict is None
    assert kept.similarities["dense"] == pytest.approx(high, abs=1e-5)
    better = run(lambda request: by_cosine[high if request.temperature else low])
    assert (better.verdict, better.tries, better.texts["dense"]) == (None, 2, by_cosine[high])
    dropped = run(lambda request: by_cosine[low])
    assert dropped.verdict is not None
    assert dropped.verdict.reason is Reason.CAPTION_LOW_SIMILARITY
    assert f"similarity {low:.3f} to the image" in dropped.verdict.detail
    similarity.close()


def test_seeds_are_of_the_row_and_the_kind() -> None:
    seeds = {retry_seed(seed, uid, kind) for seed in (0, 1) for uid in ("a", "b") for kind in ("dense", "short")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert list(prompts_of(settings(CLIP))) == ["dense"]
