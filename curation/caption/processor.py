"""A model's processor (chat template, tokenizer, image preparation) as captioning needs it: for single images.

Qwen-VL, SmolVLM and InternVL bring a video processor, which exists on top of torchvision only. It is never used here,
so it is left out: a machine without torchvision captions all the same. Images are always prepared with Pillow, so
pixels do not depend on whether torchvision is installed. `curation.caption.with_transformers` calls this.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from curation.models import located


def load_processor(model: str, revision: str | None) -> Any:
    """The processor of `model`, padding on the left. Raises what `from_pretrained` raises."""
    from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    path = located(model)
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    images = AutoImageProcessor.from_pretrained(path, backend="pil", **options)
    processor_class = PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(path, **options)), None)
    if processor_class is None or "video_processor" not in processor_class.get_attributes():
        processor = AutoProcessor.from_pretrained(path, **options)
        processor.image_processor = images
    else:
        without = _without_video(processor_class)
        # Includes the chat template, wherever the folder keeps it.
        settings, _ = without.get_processor_dict(path, revision=options["revision"])
        settings.pop("video_processor", None)
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        processor = without.from_args_and_dict(
            [], settings, image_processor=images, tokenizer=tokenizer, video_processor=None
        )
    tokenizer = processor.tokenizer
    if processor.chat_template is None:  # older folders keep it with the tokenizer
        processor.chat_template = tokenizer.chat_template
    tokenizer.padding_side = "left"  # answers of a batch begin at the same place
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def _without_video(processor_class: Any) -> Any:
    """A subclass that neither loads nor wants a video processor."""

    class ImagesOnly(processor_class):  # type: ignore[misc]
        # SmolVLM looks up these two for every conversation.
        video_processor = SimpleNamespace(num_frames=None, fps=None)

        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    return ImagesOnly
