"""The tokenizer of the embedded world, in CLIP's format: every word that its descriptions use is one token.

    python -m curation.scenes.zoo.tokenizer FOLDER

CLIP and both text encoders of the teacher use it, with CLIP's limit of 77 tokens.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from curation.scenes.describe import alt, dense, medium, short
from curation.scenes.scene import random_scene

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 1024
SCENES = 4000
MAX_TOKENS = 77


def make_tokenizer() -> CLIPTokenizer:
    """Byte-pair encoding learnt from descriptions of all kinds; the same on every machine."""
    rules = CLIPTokenizer().backend_tokenizer  # how CLIP normalises and splits; it knows no words yet
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    learner.train_from_iterator(
        _texts(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[START, END],
            end_of_word_suffix="</w>",
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    learnt = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    return CLIPTokenizer(vocab=learnt["vocab"], merges=merges, model_max_length=MAX_TOKENS)


def _texts() -> Iterator[str]:
    for seed in range(SCENES):
        scene = random_scene(("tokenizer", seed))
        yield from (dense(scene, seed), medium(scene), short(scene), alt(scene, seed))


if __name__ == "__main__":
    make_tokenizer().save_pretrained(Path(sys.argv[1]))
