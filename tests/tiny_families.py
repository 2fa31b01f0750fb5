"""Vision-language models of the families that people caption with, a ten-thousandth of their size, in the same formats
and with random weights: what they write means nothing. `tiny_llava.py` has the one that can speak.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tiny_llava import SPECIAL, TEMPLATE, tiny_tokenizer

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
CHATML_SPECIAL = [*SPECIAL, "<|im_start|>", "<|im_end|>"]
CHATML = (  # Qwen-VL's and InternVL's way to write turns; `IMAGE` stands for what stands for an image
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ 'IMAGE' }}"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def llava_next(folder: Path) -> Path:
    """LLaVA-NeXT: several crops of an image, as many tokens as its shape asks for."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
    )

    tokenizer = tiny_tokenizer()
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=32, patch_size=8),
        text_config=LlamaConfig(**TEXT, **ids(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
        image_seq_length=16,
    )
    images = {
        "image_processor_type": "LlavaNextImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "image_grid_pinpoints": pinpoints,
    }
    processor = {
        "processor_class": "LlavaNextProcessor",
        "patch_size": 8,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    return saved(folder, LlavaNextForConditionalGeneration, config, tokenizer, images, processor, TEMPLATE)


def qwen2_5_vl(folder: Path) -> Path:
    """Qwen2.5-VL: images at their own size, positions in three dimensions, a video processor that wants torchvision."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = tiny_tokenizer(
        special=[*CHATML_SPECIAL, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    )
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "window_size": 32,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        text_config={**TEXT, **ids(tokenizer), "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    images = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": 8,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "min_pixels": 16 * 16 * 4,
        "max_pixels": 16 * 16 * 16,
    }
    template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    return saved(folder, Qwen2_5_VLForConditionalGeneration, config, tokenizer, images, None, template)


def smolvlm(folder: Path) -> Path:
    """SmolVLM2: crops with rows and columns in words, a video processor that wants torchvision, a second end token."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    places = [f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)]
    tokenizer = tiny_tokenizer(
        special=[*SPECIAL, "<fake_token_around_image>", "<global-img>", "<video>", "<end_of_utterance>", *places]
    )
    token = tokenizer.convert_tokens_to_ids
    config = SmolVLMConfig(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT, **ids(tokenizer)},
        image_token_id=token("<image>"),
        scale_factor=2,
    )
    images = {
        "image_processor_type": "SmolVLMImageProcessor",
        "size": {"longest_edge": 64},
        "max_image_size": {"longest_edge": 32},
    }
    processor = {"processor_class": "SmolVLMProcessor", "image_seq_len": 4}
    template = (
        "<s>{% for message in messages %}{{ message['role'] | capitalize }}:{% for line in message['content'] %}"
        "{% if line['type'] == 'image' %}{{ '<image>' }}{% else %}{{ line['text'] }}{% endif %}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    )
    folder = saved(folder, SmolVLMForConditionalGeneration, config, tokenizer, images, processor, template)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": token("<end_of_utterance>")}))
    return folder


def internvl(folder: Path) -> Path:
    """InternVL3 in the format of `transformers` (`-hf`): tiles, a video processor that wants torchvision."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = tiny_tokenizer(special=[*CHATML_SPECIAL, *named.values()], extra_special_tokens=named)
    config = InternVLConfig(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "qwen2", **TEXT, **ids(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    images = {
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "size": {"height": 32, "width": 32},
        "crop_to_patches": False,
        "min_patches": 1,
        "max_patches": 4,
    }
    processor = {"processor_class": "InternVLProcessor", "image_seq_length": 4}
    template = CHATML.replace("IMAGE", "<IMG_CONTEXT>\\n")
    return saved(folder, InternVLForConditionalGeneration, config, tokenizer, images, processor, template)


FAMILIES: tuple[Callable[[Path], Path], ...] = (llava_next, qwen2_5_vl, smolvlm, internvl)


def ids(tokenizer: Any) -> dict[str, int | None]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def saved(
    folder: Path, model_class: Any, config: Any, tokenizer: Any, images: Any, processor: Any, template: str
) -> Path:
    """Everything as it lies on the hub: the processor's parts in files of their own."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = model_class(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:  # a fresh model's outputs would hardly depend on its inputs
                    parameter.mul_(4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "chat_template.jinja").write_text(template)
    if processor is not None:
        (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder
