"""The tokenizer of the embedded world, in CLIP's format: every word that its descriptions use is one token.

CLIP and both text encoders of the teacher use it, with CLIP's limit of 77 tokens; their trainings make it when they
begin, and again when they go on, so it must be the same each time. The trainer of `tokenizers` is not: the order of a
hash table decides between equally frequent pairs. Hence the few lines of byte-pair encoding here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from curation.scenes.describe import alt, dense, medium, short
from curation.scenes.scene import random_scene

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
VOCABULARY = 1024
SCENES = 1000
MAX_TOKENS = 77

Pair = tuple[str, str]


def make_tokenizer() -> CLIPTokenizer:
    """Byte-pair encoding learnt from descriptions of all kinds; the same on every machine."""
    rules = CLIPTokenizer().backend_tokenizer  # how CLIP normalises and splits; it knows no words yet
    words: Counter[str] = Counter()
    for text in _texts():
        words.update(word for word, _ in rules.pre_tokenizer.pre_tokenize_str(rules.normalizer.normalize_str(text)))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [START, END, *alphabet, *(letter + WORD_END for letter in alphabet)]
    merges = learn(words, VOCABULARY - len(tokens))
    tokens += [left + right for left, right in merges]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def learn(words: Counter[str], most: int) -> list[Pair]:
    """At most `most` merges, most frequent first (Sennrich et al. 2016); of equally frequent pairs the first in
    alphabetical order."""
    split = {word: [*word[:-1], word[-1] + WORD_END] for word in words}
    merges: list[Pair] = []
    while len(merges) < most:
        pairs: Counter[Pair] = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: _merged(parts, best) for word, parts in split.items()}
    return merges


def _merged(parts: list[str], pair: Pair) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def _texts() -> Iterator[str]:
    for seed in range(SCENES):
        scene = random_scene(("tokenizer", seed))
        yield from (dense(scene, seed), medium(scene), short(scene), alt(scene, seed))
