"""Caption with a vision-language model that runs in the worker: any of `transformers`' image-text-to-text models that
comes with a chat template (LLaVA-1.5, LLaVA-NeXT, Qwen-VL, SmolVLM, InternVL).

Requests are answered in batches of like ones: same limit, same temperature, all with an image or all without. What a
request gets does not depend on its batch, but for rounding: left padding is masked, and each request draws from a
random generator of its own. The caption stage makes this backend (`curation.caption.stage.make_backend`).
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from curation.caption.backend import Backend, Reply, Request
from curation.caption.processor import load_processor
from curation.config.caption import CaptionSettings
from curation.errors import ConfigError, CurationError, RunError
from curation.hub import load_fault
from curation.models import check_model, check_whole, device_and_dtype, load_options, located
from curation.text import first_line

if TYPE_CHECKING:
    import torch

_SETTING = "stages.caption.model"
_Alike = tuple[bool, int, float]
"""What the requests of a batch share: with an image, `max_tokens`, `temperature`."""


class TransformersBackend(Backend):
    """One model on one device; one batch at a time, in a thread of its own."""

    def __init__(self, settings: CaptionSettings) -> None:
        self._settings = settings
        self._thread: ThreadPoolExecutor | None = None
        self._stopped = False
        # Largest batch that has not run out of memory, with and without images.
        self._most = {True: settings.run.batch, False: settings.run.batch}

    def check(self, online: bool) -> None:
        model = self._settings.model
        config = check_model(_SETTING, model, self._settings.revision, online=online)
        if config is None:
            return
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        kind = config["model_type"]
        if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise ConfigError(_SETTING, f"{model} is of type {kind!r}, which writes no text about images")
        if kind == "smolvlm" and find_spec("num2words") is None:
            raise ConfigError(
                _SETTING, f"the processor of {model} needs the package `num2words`: pip install num2words"
            )
        copy.copy(self)._check_processor()  # what it loads here is not for the workers

    def _check_processor(self) -> None:
        """Prepare what `setup` will ask first. Raises ConfigError."""
        model = self._settings.model
        try:
            self._load_processor()
            if not self._processor.chat_template:
                raise ConfigError(_SETTING, f"{model} has no chat template (chat_template.jinja): is it a chat model?")
            for request in _first_requests():
                self._prepare([request])
        except CurationError:
            raise
        except Exception as error:  # whatever a model brings: files missing or damaged, a strange chat template
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise load_fault(_SETTING, f"the processor of {model} cannot be used: {reason}", error) from error

    def _load_processor(self) -> None:
        self._processor = load_processor(self._settings.model, self._settings.revision)
        self._controls = _control_words(self._processor)

    def setup(self, workers: int) -> None:
        """Load the model and ask it for one token with and without an image: what cannot work fails here, not row by
        row. Raises ConfigError, RunError."""
        from transformers import AutoModelForImageTextToText
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        name, revision = self._settings.model, self._settings.revision
        self._device, self._dtype = device_and_dtype(self._settings.run.gpus, "stages.caption.run.gpus")
        try:
            self._load_processor()
            model, told = AutoModelForImageTextToText.from_pretrained(
                located(name), dtype=self._dtype, output_loading_info=True, **load_options(revision)
            )
            check_whole(_SETTING, name, told)
            model.to(self._device)
            self._model = model.eval()
            self._ends, self._pad = _special_ids(self._model, self._processor.tokenizer)
            for request in _first_requests():
                self._generate([request], self._prepare([request]))
        except CurationError:
            raise
        except Exception as error:  # whatever a model brings: a missing package, a broken file, a strange chat template
            raise RunError(f"the model {name} cannot be used: {type(error).__name__}: {first_line(error)}") from error
        self._stopped = False
        self._thread = ThreadPoolExecutor(1, "caption")

    async def write(self, requests: Sequence[Request]) -> list[Reply]:
        assert self._thread is not None, "not set up"
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, list(requests))

    def close(self) -> None:
        """Ends a batch that is being written at its next token."""
        self._stopped = True
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread = None
        self._model = self._processor = None

    def _write(self, requests: list[Request]) -> list[Reply]:
        groups: dict[_Alike, list[int]] = {}
        for place, request in enumerate(requests):
            alike = (request.image is not None, request.max_tokens, request.temperature)
            groups.setdefault(alike, []).append(place)
        replies: dict[int, Reply] = {}
        for (shows, _, _), places in groups.items():
            waiting = deque(places)
            while waiting:
                batch = [waiting.popleft() for _ in range(min(len(waiting), self._most[shows]))]
                answered = self._answer([requests[place] for place in batch])
                if answered is None:  # out of memory, and there is more than one: all wait again, for smaller batches
                    self._most[shows] = (len(batch) + 1) // 2
                    waiting.extendleft(reversed(batch))
                else:
                    replies.update(zip(batch, answered, strict=True))
        return [replies[place] for place in range(len(requests))]

    def _answer(self, batch: list[Request]) -> list[Reply] | None:
        """Replies to like requests; None where their batch is too large for the GPU's memory."""
        import torch

        try:
            inputs = self._prepare(batch)
        except ValueError as error:
            # An image or a text that the processor refuses (Qwen-VL does not take every aspect ratio): whose is it?
            if len(batch) > 1:
                return [reply for request in batch for reply in self._answer([request]) or [_OUT_OF_MEMORY]]
            return [Reply(error=f"the model's processor refuses it: {error}")]
        try:
            return self._generate(batch, inputs)
        except torch.cuda.OutOfMemoryError:
            del inputs
        # Outside of the handler: the traceback kept the batch's tensors alive.
        torch.cuda.empty_cache()
        return None if len(batch) > 1 else [_OUT_OF_MEMORY]

    def _prepare(self, batch: Sequence[Request]) -> Any:
        """Token ids [B, T] padded on the left, and what the model takes of the images."""
        turns = [
            [{"role": "user", "content": [*([{"type": "image"}] if r.image else []), _said(self._plain(r.prompt))]}]
            for r in batch
        ]
        tokenizer = self._processor.tokenizer
        texts = self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        # Some templates write the start token themselves; the tokenizer must not write it again.
        begun = tokenizer.bos_token is not None and texts[0].startswith(tokenizer.bos_token)
        return self._processor(
            text=texts,
            images=[[r.image] for r in batch] if batch[0].image is not None else None,
            padding=True,
            add_special_tokens=not begun,
            return_tensors="pt",
        )

    def _plain(self, prompt: str) -> str:
        """`prompt` without control words: from a web page, `<image>` would stand for an image that is not there."""
        for word in self._controls:
            prompt = prompt.replace(word, " ")
        return prompt

    def _generate(self, batch: Sequence[Request], inputs: Any) -> list[Reply]:
        import torch
        from transformers import GenerationConfig

        inputs = inputs.to(self._device, dtype=self._dtype)
        limit, temperature = batch[0].max_tokens, batch[0].temperature
        # Sampling is greedy search over noisy scores, so `do_sample` is never set.
        config = GenerationConfig(
            max_new_tokens=limit, do_sample=False, eos_token_id=self._ends, pad_token_id=self._pad
        )
        # `generate` fills gaps from here: a model's own temperature, penalties and lengths have no say.
        self._model.generation_config = config
        with torch.inference_mode():
            written = self._model.generate(
                **inputs,
                generation_config=config,
                logits_processor=[_Noise([r.seed for r in batch], temperature, self._device)] if temperature else [],
                stopping_criteria=[self._stop],
            )
        rows = written[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._reply(row) for row in rows]

    def _stop(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return ids.new_full((ids.shape[0],), self._stopped).bool()

    def _reply(self, ids: list[int]) -> Reply:
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        text = self._processor.tokenizer.decode(ids[:end], skip_special_tokens=True)
        # Past its end, a row is padding.
        return Reply(text.strip(), tokens=len(ids) if end is None else end + 1, cut_off=end is None)


_OUT_OF_MEMORY = Reply(error="the GPU has no memory for it, even alone")


class _Noise:
    """Sampling as greedy search: the largest of score / temperature + Gumbel noise is a draw from the softmax (Gumbel
    1954). Each row draws from a generator of its own."""

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device) -> None:
        import torch

        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores`: float [B, V]."""
        import torch

        drawn = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(drawn, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self._temperature - drawn.log()


def _first_requests() -> list[Request]:
    """For one token, with and without an image."""
    from PIL import Image

    images = (Image.new("RGB", (64, 64), "grey"), None)
    return [Request("first", "Describe this.", image, max_tokens=1) for image in images]


def _said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _special_ids(model: Any, tokenizer: Any) -> tuple[list[int], int]:
    """Tokens that end an answer, and the one that pads."""
    named = model.generation_config.eos_token_id
    ends = {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None}
    if not ends:
        raise ValueError("it names no token that ends an answer")
    return sorted(ends), min(ends) if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def _control_words(processor: Any) -> list[str]:
    tokenizer = processor.tokenizer
    words = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    words |= {
        word for name in ("image_token", "video_token") if isinstance(word := getattr(processor, name, None), str)
    }
    return sorted(words, key=len, reverse=True)
