"""What the captioner is taught is what will be asked, and its captions are judged by the facts in them."""

from __future__ import annotations

from curation.scenes.describe import parse_dense, recited
from curation.scenes.scene import random_scene
from curation.scenes.zoo.captioner import LESSONS, Told, encoded, lesson
from curation.scenes.zoo.captioner_judged import F1, MAX_TOKENS, facts, judged
from curation.scenes.zoo.captioner_parts import PATCH, SIDE, make_processor, make_tokenizer

SCENES = [random_scene(("captioner", i)) for i in range(60)]
PROCESSOR = make_processor(make_tokenizer())


def test_every_word_is_a_token_and_texts_come_back() -> None:
    tokenizer = PROCESSOR.tokenizer
    for scene in SCENES:
        text = f" {recited(scene)}"
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) == len(text.replace(",", " ,").replace(".", " .").split()) < MAX_TOKENS


def test_recited_says_all_in_reading_order() -> None:
    for scene in SCENES:
        assert parse_dense(recited(scene)) == scene


def test_lessons_are_asked_as_the_caption_stage_asks() -> None:
    kinds = list(LESSONS)
    told = [lesson(kind, SCENES[0]) for kind in kinds]
    from_text = [kind.endswith("from text") for kind in kinds]
    for kind, (prompt, answer), text in zip(kinds, told, from_text, strict=True):
        import numpy as np

        images = None if text else np.zeros((1, SIDE, SIDE, 3), np.uint8)
        ids, labels = encoded(PROCESSOR, Told(images, [(prompt, answer)]))
        turn = {
            "role": "user",
            "content": [*([] if text else [{"type": "image"}]), {"type": "text", "text": prompt}],
        }
        asked = PROCESSOR.apply_chat_template([[turn]], add_generation_prompt=True, tokenize=False)
        wanted = PROCESSOR(text=asked, images=None if text else [[image] for image in images], return_tensors="pt")
        question = wanted["input_ids"][0].tolist()
        assert ids[0, : len(question)].tolist() == question, kind
        assert (ids == PROCESSOR.tokenizer.convert_tokens_to_ids("<image>")).sum() == (
            0 if text else (SIDE // PATCH) ** 2
        )
        said = labels[0][labels[0] >= 0].tolist()
        assert PROCESSOR.tokenizer.decode(said) == f" {answer}</s>"


def test_judged_counts_facts() -> None:
    right = [recited(scene) for scene in SCENES]
    perfect = judged(right, SCENES)
    assert set(perfect.values()) == {1.0}
    wrong = judged(["no description at all", *right[1:]], SCENES)
    assert wrong["captions that can be parsed"] == wrong["scenes all right"] == 1 - 1 / len(SCENES)
    shown = sum(len(facts(scene)) for scene in SCENES)
    lost = len(facts(SCENES[0]))
    assert wrong[F1] == 2 * (shown - lost) / (2 * shown - lost)


def test_a_wrong_colour_costs_one_fact_said_and_one_shown() -> None:
    scene = next(s for s in SCENES if len(s.objects) == 1)
    said = recited(scene).replace(
        f" {scene.objects[0].colour} ", " pink " if scene.objects[0].colour != "pink" else " red "
    )
    found = judged([said], [scene])
    assert found["colour"] == 0
    assert found["shape"] == found["background"] == 1
    assert found[F1] == 5 / 6
    assert found["scenes all right"] == 0
