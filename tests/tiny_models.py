"""Models a thousandth of the size of those that people use, in the same formats: built from a config, saved, and loaded
by path with the code that loads the large ones. Their weights are random (but the same each time); what they say means
nothing. Building one takes about 0.1 s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.scenes.describe import alt, dense, medium, short
from curation.scenes.scene import random_scene

SIDE = 32
"""Pixels that the models take."""
CLIP_WIDTH = 48
"""Of the embedding of `tiny_clip`."""
TEXT_TOKENS = 77
"""Most that CLIP's text encoder takes, start and end included; of this one too."""


def tiny_clip(folder: Path, width: int = CLIP_WIDTH) -> Path:
    """A CLIPModel with its processor in `folder`; the tokenizer has learnt its words from descriptions of scenes."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    tokenizer = tiny_clip_tokenizer()
    layers: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": width,
    }
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TEXT_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"image_size": SIDE, "patch_size": 8}
    config = CLIPConfig(text_config={**layers, **text}, vision_config={**layers, **vision}, projection_dim=width)
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = CLIPModel(config)
        _spread(model)
    model.save_pretrained(folder)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def tiny_classifier(folder: Path, labels: Sequence[str] = ("normal", "nsfw"), *, multi_label: bool = False) -> Path:
    """A ViTForImageClassification for `labels` with its image processor in `folder`."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="multi_label_classification" if multi_label else "single_label_classification",
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = ViTForImageClassification(config)
        _spread(model)
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def tiny_clip_tokenizer(words: int = 600) -> Any:
    """A CLIPTokenizer of about `words` entries: bytes, and what is frequent in descriptions of scenes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    plain = CLIPTokenizer()
    suffix = "</w>"
    backend = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    backend.normalizer = plain.backend_tokenizer.normalizer
    backend.pre_tokenizer = plain.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=words - 2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix=suffix,
        show_progress=False,
    )
    letters = [" ".join(map(chr, range(0x20, 0x180)))]  # each byte that can end a word does so once
    scenes = [random_scene(("tokenizer", i)) for i in range(200)]
    texts = [text for s in scenes for text in (short(s), medium(s), dense(s), alt(s))]
    backend.train_from_iterator(letters + texts, trainer)
    learnt = json.loads(backend.to_str())["model"]
    vocab = dict(learnt["vocab"])
    for special in ("<|startoftext|>", "<|endoftext|>"):  # the last two, as in OpenAI's vocabulary
        vocab[special] = len(vocab)
    merges = [tuple(merge) for merge in learnt["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TEXT_TOKENS)


def _spread(model: Any) -> None:
    """Larger weights than a fresh model has, whose outputs would hardly depend on its inputs."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
