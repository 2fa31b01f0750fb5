"""The captioner before it has learnt anything, in LLaVA's layout: vision tower, projector, language model, processor.

Its tokenizer is byte-level BPE (with capitals and spaces, which CLIP's drops, for it writes as well as reads), with a
token for each word of the world's descriptions and of the built-in prompts. `captioner.py` trains these parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from curation.caption.prompts import DENSE, FUSE, MEDIUM_FROM_IMAGE, MEDIUM_FROM_TEXT, SHORT_FROM_IMAGE, SHORT_FROM_TEXT
from curation.scenes.describe import dense, medium, recited, short
from curation.scenes.scene import random_scene
from curation.scenes.zoo.vision import image_processor, layers

SIDE, PATCH = 192, 16
"""Pixels: a texture's period is three of them, and a cell of the world's grid is four by four patches."""
WIDTH = 128
VISION_DEPTH, TEXT_DEPTH = 4, 4
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
VOCABULARY = 1200
TEMPLATE = (  # LLaVA-1.5's own, for user and assistant turns
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The same on every machine."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def _texts() -> Iterator[str]:
    prompts = [p.text for p in (DENSE, MEDIUM_FROM_IMAGE, SHORT_FROM_IMAGE, MEDIUM_FROM_TEXT, SHORT_FROM_TEXT, FUSE)]
    yield from [f"USER: {prompt} ASSISTANT:" for prompt in prompts] * 20
    for seed in range(2000):
        scene = random_scene(("tokenizer", seed))
        # answers follow a colon and a space; a text in the middle of a prompt begins a line
        yield from (text for said in (recited(scene), medium(scene), short(scene)) for text in (said, f" {said}"))
        yield dense(scene, seed)


def make_tower() -> CLIPVisionModel:
    """The untrained vision tower."""
    return CLIPVisionModel(CLIPVisionConfig(**layers(WIDTH, VISION_DEPTH), image_size=SIDE, patch_size=PATCH))


def make_captioner(tokenizer: PreTrainedTokenizerFast, tower: CLIPVisionModel) -> LlavaForConditionalGeneration:
    """The captioner around a vision tower, whose weights it takes."""
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=TEXT_DEPTH,
        num_attention_heads=WIDTH // 32,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    return model


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Pictures, chat template and tokenizer."""
    return LlavaProcessor(
        image_processor(SIDE),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def asked(processor: LlavaProcessor, prompt: str, with_image: bool) -> str:
    """A prompt as the chat template puts it, with a place for each patch of the image."""
    content: list[dict[str, Any]] = [{"type": "image"}] if with_image else []
    turn = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
    text: str = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)[0]
    return text.replace("<image>", "<image>" * (SIDE // PATCH) ** 2)
