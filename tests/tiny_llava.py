"""A vision-language model a ten-thousandth of the size of LLaVA-1.5, in the same format, that can speak: it has learnt,
in a few seconds, to describe pictures of scenes when it is asked with the built-in prompts. Most of its sentences are
sound and differ from picture to picture; some are caught in a loop; whether they are true is luck.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.caption.prompts import DENSE, FUSE, MEDIUM_FROM_TEXT, SHORT_FROM_TEXT
from curation.scenes.describe import dense, medium, short
from curation.scenes.render import render
from curation.scenes.scene import random_scene

SIDE = 32
"""Pixels that the model takes."""
STEPS = 90
BATCH = (0, 0, 1, 2)
"""Kinds of request of one step."""
RATE = 4e-3
LOUD = 6
"""Scales what the picture brings in, lest it be lost among the positions of its patches."""
LESSONS = 4
"""Scenes that it learns from."""
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
TEMPLATE = (  # LLaVA-1.5's own, for user and assistant turns
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def tiny_tokenizer(words: int = 700, special: list[str] = SPECIAL, **settings: Any) -> Any:
    """A byte-level BPE tokenizer that has learnt its words from descriptions of scenes and from the prompts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    scenes = [random_scene(("tokenizer", i)) for i in range(150)]
    texts = [text for s in scenes for text in (short(s), medium(s), dense(s, 1))]
    prompts = [prompt.text for prompt in (DENSE, MEDIUM_FROM_TEXT, SHORT_FROM_TEXT, FUSE)]
    backend.train_from_iterator(texts + prompts * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>", **settings
    )


def tiny_llava(folder: Path, steps: int = STEPS) -> Path:
    """A LlavaForConditionalGeneration with its processor and chat template in `folder`."""
    import torch
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = tiny_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // 8) ** 2,
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(3)
        model = LlavaForConditionalGeneration(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "patch_embedding" in name or ("projector" in name and parameter.dim() > 1):
                    parameter.mul_(LOUD)
        _teach(model, processor, steps)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@contextmanager
def one_thread() -> Iterator[None]:
    """More threads only wait for one another, with models of this size."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _teach(model: Any, processor: Any, steps: int) -> None:
    """Teacher forcing on a few scenes: all kinds of request in each step, loss on the answers alone."""
    import torch
    from PIL import Image

    tokenizer = processor.tokenizer
    scenes = [scene for i in range(60) if len((scene := random_scene(("llava", i))).objects) > 2][:LESSONS]
    pictures = [Image.fromarray(render(scene, SIDE, SIDE, seed=i)) for i, scene in enumerate(scenes)]
    said = [dense(scene, 1) for scene in scenes]
    lessons = [
        [
            (f"USER: <image>\n{DENSE.text} ASSISTANT:", said[i]),
            (f"USER: {MEDIUM_FROM_TEXT.fill(caption=said[i])} ASSISTANT:", medium(scene)),
            (f"USER: {SHORT_FROM_TEXT.fill(caption=said[i])} ASSISTANT:", short(scene)),
            (f"USER: {FUSE.fill(caption=said[i], names='Ada')} ASSISTANT:", said[i]),
        ]
        for i, scene in enumerate(scenes)
    ]
    rows = [[_lesson(processor, *lesson) for lesson in of_scene] for of_scene in lessons]
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(4)
    for _ in range(steps):
        chosen = torch.randint(len(scenes), (len(BATCH),), generator=generator).tolist()
        batch = [rows[i][kind] for i, kind in zip(chosen, BATCH, strict=True)]
        ids, labels = (
            torch.nn.utils.rnn.pad_sequence(side, True, pad)
            for side, pad in zip(zip(*batch, strict=True), (tokenizer.pad_token_id, -100), strict=True)
        )
        shown = pixels[[i for i, kind in zip(chosen, BATCH, strict=True) if kind == 0]]
        optimizer.zero_grad()
        mask = (ids != tokenizer.pad_token_id).long()
        model(input_ids=ids, attention_mask=mask, pixel_values=shown, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def _lesson(processor: Any, asked: str, answer: str) -> Any:
    """Token ids of question and answer, and the labels of the answer."""
    import torch

    question = processor.tokenizer(asked.replace("<image>", "<image>" * (SIDE // 8) ** 2))["input_ids"]
    answered = processor.tokenizer(f" {answer}</s>")["input_ids"]
    return torch.tensor(question + answered), torch.tensor([-100] * len(question) + answered)
