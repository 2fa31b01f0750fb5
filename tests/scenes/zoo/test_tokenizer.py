"""The world's tokenizer: a token a word, and the same each time that it is made, in any process."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from curation.scenes.describe import dense
from curation.scenes.scene import random_scene
from curation.scenes.zoo.tokenizer import END, START, learn, make_tokenizer

TOKENIZER = make_tokenizer()


def test_every_word_is_one_token() -> None:
    for i in range(100):
        text = dense(random_scene(("words", i)), i)
        words = text.replace(",", " ,").replace(".", " .").split()
        ids = TOKENIZER(text)["input_ids"]
        assert len(ids) == len(words) + 2
        assert (ids[0], ids[-1]) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1)
        assert TOKENIZER.decode(ids[1:-1]).split() == [word.lower() for word in words]


def test_it_is_the_same_in_another_process() -> None:
    code = (
        "from curation.scenes.zoo.tokenizer import make_tokenizer\n"
        "import hashlib, json\n"
        "print(hashlib.sha256(make_tokenizer().backend_tokenizer.to_str().encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_unknown_words_fall_apart_into_letters() -> None:
    ids = TOKENIZER("a zeppelin 7 ü")["input_ids"]
    assert TOKENIZER.decode(ids, skip_special_tokens=True).split() == ["a", "zeppelin", "7", "ü"]
    assert {START, END} <= set(TOKENIZER.get_vocab())


def test_learn_merges_the_most_frequent_pair_first_and_breaks_ties_by_name() -> None:
    assert learn(Counter({"abab": 3, "cd": 3, "x": 9}), 4) == [
        ("a", "b"),
        ("a", "b</w>"),
        ("ab", "ab</w>"),
        ("c", "d</w>"),
    ]
    assert learn(Counter({"abab": 3, "cd": 4}), 1) == [("c", "d</w>")]
