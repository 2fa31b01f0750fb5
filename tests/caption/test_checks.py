"""Each fault of a model's text has its own reason, and what only looks like a fault passes."""

from __future__ import annotations

import pytest

from curation.caption.checks import LONGEST, Checked, check, refusal, repetition, without_boilerplate
from curation.caption.text import full_sentences, script_of, sentences, tidy, words
from curation.row import Reason

POEM = (
    "A framed page holds a poem: Row, row, row your boat, gently down the stream, merrily, merrily, merrily, merrily, "
    "life is but a dream; row, row, row your boat, gently up the creek, and if you see a little mouse, do not forget "
    "to squeak; row, row, row your boat, gently to the shore, and if you see a lion there, do not forget to roar."
)


def checked(
    text: str, *, cut_off: bool = False, word_range: tuple[int, int] = (3, 100), script: tuple[str, ...] = ("latin",)
) -> Checked:
    return check(text, cut_off=cut_off, word_range=word_range, scripts=script)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "caption_empty"),
        (" \n\t ", "caption_empty"),
        ("...", "caption_empty"),
        ("12 345 - 6", "caption_empty"),
        ("```\n\n```", "caption_empty"),
        ("I'm sorry, but I can't help with that.", "caption_refusal"),
        ("I’m sorry, I can’t assist with this request.", "caption_refusal"),
        ("Sorry, but I cannot describe people.", "caption_refusal"),
        ("I apologize, but I am unable to view images.", "caption_refusal"),
        ("Unfortunately, I cannot see the image that you mention.", "caption_refusal"),
        ("As an AI language model, I have no eyes.", "caption_refusal"),
        ("As an AI, I do not see pictures.", "caption_refusal"),
        ("I don't see any image in our conversation.", "caption_refusal"),
        ("No image was provided. Tell me more.", "caption_refusal"),
        ("Please provide the image so that I can describe it.", "caption_refusal"),
        ("**I cannot** identify real people from their faces.", "caption_refusal"),
        ("A woman stands by a wall. I'm not able to identify her, sorry.", "caption_refusal"),
        ("Lo siento, pero no puedo ayudar con eso.", "caption_refusal"),
        ("I must decline to describe this picture.", "caption_refusal"),
        ("It is not possible to describe the image as it was not included.", "caption_refusal"),
        ("I'd be happy to help! However, it seems that the image did not come through.", "caption_refusal"),
        ("USER: Describe this image. ASSISTANT: A red car stands in a street.", "caption_refusal"),
        ("<think>The user wants a caption. A man and a woman", "caption_cut_off"),
        ("The image shows", "caption_empty"),
        ("The image shows...", "caption_empty"),
        ("Caption:", "caption_empty"),
        ("A red red red red red red car stands here.", "caption_repetition"),
        ("A dog and a cat, a dog and a cat, a dog and a cat, a dog and", "caption_repetition"),
        ("A man is sitting on a bench. A man is sitting on a bench.", "caption_repetition"),
        ("A shirt with the words lalalalalalalalalalalala on it.", "caption_repetition"),
        ("Een grote rode auto staat hier", None),
        ("И вот большая собака сидит на траве у дома.", "caption_wrong_script"),
        ("犬が公園で走っています。", "caption_wrong_script"),
        ("A dog.", "caption_too_short"),
        ("A " + " ".join(f"dog{i} runs" for i in range(60)), "caption_too_long"),
    ],
)
def test_each_fault_has_its_reason(text: str, reason: str | None) -> None:
    found = checked(text)
    assert found.reason == reason
    assert bool(found.detail) == (reason is not None)


@pytest.mark.parametrize(
    "text",
    [
        "A sorry-looking dog sits on a wet mat.",
        "A handwritten sign on a door reads \"I'm sorry, I can't come in. As an AI, I refuse.\"",
        "As an AI-generated artwork, the piece glows in neon colours.",
        "A woman holds a sign that says 'I can't breathe. I won't be silent.' Behind her, a crowd walks.",
        "The dogs' bowl is red. It is not possible to see its ground.",
        "As an airplane lands, two children wave.",
        "An apology card with a bear that says sorry.",
        "A phone cannot be seen in the dark room.",
        "The painting depicts a lake at dusk.",
        "The black-and-white photograph shows an old man.",
        "A photo of a woman hangs on the wall of a house.",
        "In the picture frame, a cat is drawn in ink.",
        "The picture shows signs of wear along its edges.",
        "This is a drawing of a cat in red ink.",
        "A red, red, red rose and a very, very, very old man.",
        "Three dogs: a black dog, a brown dog, and a white dog on a red sofa.",
        "A red ball, a blue ball, a green ball, a yellow ball and a white ball lie on a table.",
        "The Greek word λόγος stands on a white wall.",
        "A shop with the sign 寿司 above its door.",
        "A neon sign says “Hahahaha” above the bar.",
        "Dr. Smith, in a U.S. army coat, stands at No. 5 St. James.",
        POEM,
    ],
)
def test_what_only_looks_like_a_fault_passes_unchanged(text: str) -> None:
    found = checked(text)
    assert (found.reason, found.text) == (None, text.replace("“", '"').replace("”", '"'))


def test_thoughts_are_no_part_of_a_caption() -> None:
    assert checked("<think>I'm sorry, what is it?</think>\n\nA red car stands here.").text == "A red car stands here."
    assert checked("A template began it.</think> A red car stands here.").text == "A red car stands here."


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The image shows a red car.", "A red car."),
        ("The image features: a red car.", "A red car."),
        ("This photograph depicts two dogs.", "Two dogs."),
        ("the picture is of a red car", "A red car"),
        ("The image is a photo of a red car.", "A red car."),
        ("This is a photo of a red car.", "A red car."),
        ("In this image, a red car stands.", "A red car stands."),
        ("In the image, we can see that a red car stands.", "A red car stands."),
        ("In the photo there is a red car.", "There is a red car."),
        ("Sure! Here is a detailed caption for the image: In this image, we see a red car.", "A red car."),
        ('Caption: "A red car."', "A red car."),
        ("The image shows that the car is red.", "The car is red."),
        ("The image shows iPhone boxes.", "iPhone boxes."),
        ("The image shows how a car is built.", "The image shows how a car is built."),
        ("Surely a red car.", "Surely a red car."),
    ],
)
def test_boilerplate_is_stripped(text: str, left: str) -> None:
    assert without_boilerplate(tidy(text)) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A dog runs. It is brown and has a", "A dog runs."),
        ("A dog runs! Is it brown? It h", "A dog runs! Is it brown?"),
        ("A dog runs. It costs 3.5 dollars and", "A dog runs."),
        ("A dog of Dr. Smith runs. Beside it stands Mr.", "A dog of Dr. Smith runs."),
        ('A man says "Go away." His dog', 'A man says "Go away."'),
        ("A dog runs on the grass.", "A dog runs on the grass."),
        ("A dog runs across the green", None),
        ("A portrait of Dr. Martin Lut", None),
    ],
)
def test_a_text_at_the_token_limit_ends_with_its_last_sentence(text: str, left: str | None) -> None:
    found = checked(text, cut_off=True)
    assert (found.text, found.reason) == ((left, None) if left else (text, "caption_cut_off"))


def test_order_of_the_checks() -> None:
    loop = "a red ball on a mat, " * 20
    assert checked(loop, cut_off=True).reason == "caption_repetition"
    assert checked("I'm sorry, I can't. " * 9, cut_off=True).reason == "caption_refusal"
    assert checked("Большая собака сидит", cut_off=True).reason == "caption_cut_off"
    assert checked("Большая собака. Она", cut_off=True, word_range=(9, 99)).reason == "caption_wrong_script"
    # Words are counted in what is left.
    assert checked("The image shows a dog.", word_range=(3, 9)).reason == "caption_too_short"
    assert checked("A dog runs. It sits on a mat and", cut_off=True, word_range=(5, 9)).reason == "caption_too_short"


def test_scripts_count_together_and_may_be_off() -> None:
    japanese = "犬が公園で走っています。"
    assert checked(japanese, script=("han",)).reason == "caption_wrong_script"
    assert "hiragana" in checked(japanese, script=("han",)).detail
    for script in (("hiragana",), ("han", "hiragana", "katakana"), ()):
        assert checked(japanese, script=script) == Checked(japanese)
    assert checked("犬が走る。猫が寝る。鳥が", cut_off=True, script=()).text == "犬が走る。猫が寝る。"
    assert [script_of(c) for c in "aéßЖ漢かカＡא한"] == (
        ["latin"] * 3 + ["cyrillic", "han", "hiragana", "katakana", "latin", "hebrew", "hangul"]
    )


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("**A dog** on a *red* mat.", "A dog on a red mat."),
        ("# Description\n\nA dog\non a mat.", "A dog on a mat."),
        ("# A dog on a mat", "A dog on a mat"),
        ("Things:\n- a dog\n- a cat\n", "Things: a dog, a cat"),
        ("1. A dog.\n2. A cat.", "A dog. A cat."),
        ("```text\nA dog\n```", "A dog"),
        ("A [dog](http://a.b/c) runs", "A dog runs"),
        ("“A dog.”", "A dog."),
        ('"A dog" and "a cat"', '"A dog" and "a cat"'),
        ("A dog\u200b's\x00 \ud83d mat\u00a0\u202eno", "A dog's matno".replace("matno", "mat no")),
        ("Cafe\u0301", "Café"),
        ("5 * 3 and a_b_c", "5 * 3 and a_b_c"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_text_becomes_one_plain_line(raw: str, line: str) -> None:
    assert tidy(raw) == line
    assert tidy(line) == line


def test_loops() -> None:
    assert repetition("no no no no") is None
    assert repetition("no no no no no")
    assert repetition("tick tock tick tock tick tock") is None
    assert repetition("tick tock tick tock tick tock tick tock")
    assert repetition("the big cat the big cat the big cat")
    assert repetition("the big cat the big cat") is None
    # Not in a row, but little else: more than half of the words were there before.
    assert repetition(" ".join(f"A large brown dog sits on a soft red mat {i}." for i in range(4)))
    # Long, and fast all the same.
    assert repetition("ab" * 50_000)
    assert repetition(" ".join(f"w{i}" for i in range(1_000))) is None


HOSTILE = (
    *("a", " ", "\n", "\n ", "*a ", "**", "_", "- ", "# ", "[a](", "`", '"', "' ", "A. ", "...", "1. ", "a b. ", "犬"),
    *("sure! ", "caption: ", "in this image, ", "the image shows ", "here is a caption ", "http://", "\ud83d"),
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_texts_end(piece: str) -> None:
    text = (piece * LONGEST)[:LONGEST]
    for cut_off in (False, True):
        assert checked(text, cut_off=cut_off).reason is not None
        checked(f"A {text[:-9]} dog.", cut_off=cut_off)
    assert checked(text + "a") == Checked(text, Reason.CAPTION_TOO_LONG, "20,001 characters")


def test_refusals_are_found_wherever_they_stand() -> None:
    assert refusal("A dog. I cannot see more.") == "I cannot see more."
    assert refusal('A dog. "I cannot see more." A cat.') is None


def test_sentences_and_words() -> None:
    line = 'Dr. J. Smith met Mrs. Bee at 3.5 km. Then he left! "Why?" she said'
    assert sentences(line) == ["Dr. J. Smith met Mrs. Bee at 3.5 km.", "Then he left!", '"Why?"', "she said"]
    assert full_sentences(line) == line.removesuffix(" she said")
    assert sentences("") == []
    assert full_sentences("no stop") == ""
    assert words("A wide-angle view, l'eau - (dog's) it's—x") == [
        "a",
        "wide-angle",
        "view",
        "l'eau",
        "dog's",
        "it's",
        "x",
    ]
    assert words("犬が走る。dog") == ["犬", "が", "走", "る", "dog"]
