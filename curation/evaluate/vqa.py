"""VQAScore (Lin et al. 2024): how probable a vision-language model finds "Yes" as the answer to whether a picture shows
its prompt. Any model of `transformers` for images and text with a chat template will do.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
from PIL import Image

from curation.caption.processor import load_processor
from curation.config import ModelSettings
from curation.errors import ConfigError
from curation.evaluate.metric import Floats, PromptMetric
from curation.evaluate.prompts import Prompt
from curation.hub import load_fault
from curation.models import check_model, check_whole, device_and_dtype, load_options, located
from curation.text import first_line

QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'
"""Of Lin et al. 2024."""
ANSWER = "Yes"


class VqaScore(PromptMetric):
    """P("Yes" | picture, question), 0 to 1; of an answer of several tokens the product of their probabilities.

    The authors' own code takes the geometric mean over the answer and the token that ends it; the paper says what is
    done here.
    """

    name = "vqa_score"
    paper = "Lin, Pathak, Li, Li, Xia, Neubig, Zhang & Ramanan 2024 (VQAScore)"
    higher_is_better = True

    def __init__(self, setting: str, settings: ModelSettings, gpus: float = 0) -> None:
        """`setting`: dotted path of `settings`, for errors."""
        self._setting, self._settings, self._gpus = setting, settings, gpus

    def check(self, online: bool) -> None:
        """Refuse a model that cannot work, before any work starts. Raises ConfigError."""
        name = self._settings.model
        config = check_model(self._setting, name, self._settings.revision, online=online)
        if config is None:
            return
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        if config["model_type"] not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise ConfigError(
                self._setting, f"{name} is of type {config['model_type']!r}, which answers no questions about images"
            )

    def setup(self) -> None:
        """Load the model. Raises ConfigError where it cannot be loaded, or is no chat model."""
        from transformers import AutoModelForImageTextToText

        name, revision = self._settings.model, self._settings.revision
        self._device, self._dtype = device_and_dtype(self._gpus, self._setting)
        try:
            self._processor = load_processor(name, revision)
            model, told = AutoModelForImageTextToText.from_pretrained(
                located(name), dtype=self._dtype, output_loading_info=True, **load_options(revision)
            )
        except Exception as error:  # a dozen kinds: files missing or damaged, of another model, a library not there
            raise load_fault(self._setting, f"{name} cannot be loaded: {first_line(error)}", error) from error
        check_whole(self._setting, name, told)
        if not self._processor.chat_template:
            raise ConfigError(self._setting, f"{name} has no chat template (chat_template.jinja): is it a chat model?")
        self._model = model.to(self._device).eval()
        self._answer, self._answer_ids = self._find_answer()

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        import torch

        asked = [text + self._answer for text in self._asked([prompt.text for prompt in prompts])]
        inputs = self._processor(
            text=asked,
            images=[[image] for image in images],
            padding=True,
            add_special_tokens=not self._begun(asked[0]),
            return_tensors="pt",
        ).to(self._device, dtype=self._dtype)
        answer = torch.tensor(self._answer_ids, device=self._device)
        count = len(answer)
        assert (inputs["input_ids"][:, -count:] == answer).all(), "each row ends in the answer"
        # A vocabulary's logits of every place are gigabytes; most models can be asked for the last ones alone.
        few = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        with torch.inference_mode():
            logits = self._model(**inputs, **({"logits_to_keep": count + 1} if few else {})).logits
        said = logits[:, -count - 1 : -1].float().log_softmax(dim=-1)  # what each place says of the next
        chosen = said.gather(2, answer.expand(len(said), -1)[..., None])
        probabilities: Floats = chosen.sum(dim=(1, 2)).exp().cpu().numpy().astype(np.float64)
        return probabilities[:, None]

    def _asked(self, texts: Sequence[str]) -> list[str]:
        """The question about each text in the model's own chat format, up to where the answer begins."""
        turns = []
        for text in texts:
            question = {"type": "text", "text": QUESTION.replace("{text}", self._plain(text))}
            turns.append([{"role": "user", "content": [{"type": "image"}, question]}])
        asked: list[str] = self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return asked

    def _plain(self, text: str) -> str:
        """`text` without control words: `<image>` would stand for a picture that is not there."""
        tokenizer = self._processor.tokenizer
        words = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        words.add(str(getattr(self._processor, "image_token", "<image>")))
        for word in sorted(words, key=len, reverse=True):
            text = text.replace(word, " ")
        return text

    def _begun(self, asked: str) -> bool:
        """Whether the chat template has written the start token, which the tokenizer must not write again."""
        start = self._processor.tokenizer.bos_token
        return start is not None and asked.startswith(start)

    def _find_answer(self) -> tuple[str, list[int]]:
        """How the answer goes on after a question, and its tokens there. Raises ConfigError."""
        tokenizer = self._processor.tokenizer
        asked = self._asked(["a picture"])[0]
        ends = tuple(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        # After "ASSISTANT:" an answer begins with a space; after a line break or a control word it does not.
        answer = ANSWER if asked[-1:].isspace() or asked.endswith(ends) else f" {ANSWER}"
        before, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, asked + answer))
        if whole[: len(before)] != before or len(whole) == len(before):
            raise ConfigError(
                self._setting, f"the tokenizer of {self._settings.model} does not keep question and answer apart"
            )
        return answer, whole[len(before) :]
