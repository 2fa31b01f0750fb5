"""Human preference as two fine-tuned CLIPs predict it: PickScore (Kirstain et al. 2023), HPSv2 (Wu et al. 2023).

Both are CLIP ViT-H/14 in `transformers`' layout: `yuvalkirstain/PickScore_v1`, and HPSv2 as converted for instance by
`adams-story/HPSv2-hf`. Either may lie in a folder. Some of these repositories hold weights alone; their processor is
then that of `laion/CLIP-ViT-H-14-laion2B-s32B-b79K` or of another CLIP of 224 pixels, named apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from curation.config import ModelSettings
from curation.evaluate.embed import ClipEmbedder
from curation.evaluate.metric import Floats, PromptMetric
from curation.evaluate.prompts import Prompt
from curation.score.clip import Clip

_OF_PROCESSOR = ("AutoImageProcessor", "AutoTokenizer")


class PreferenceClip(Clip):
    """A CLIP whose tokenizer and image processor may come from elsewhere."""

    def __init__(
        self, setting: str, settings: ModelSettings, processor: ModelSettings | None = None, gpus: float = 0
    ) -> None:
        super().__init__(setting, settings, gpus)
        self.processor = processor

    def _load(self, auto_class: str, **options: Any) -> Any:
        if self.processor is not None and auto_class in _OF_PROCESSOR:
            return Clip(f"{self.setting}.processor", self.processor)._load(auto_class, **options)
        return super()._load(auto_class, **options)


class PickScore(PromptMetric):
    """The model's logit scale × cosine: about 20 for real prompts. Differences are log-odds of being preferred."""

    name = "pick_score"
    paper = "Kirstain, Polyak, Singer, Matiana, Penna & Levy 2023 (PickScore)"
    higher_is_better = True

    def __init__(self, clip: ClipEmbedder) -> None:
        self._clip = clip

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        return self._clip.logit_scale * self._clip.cosines([prompt.text for prompt in prompts], images)[:, None]


class HpsV2(PromptMetric):
    """100 × cosine, as in the paper's tables: about 27 for real prompts."""

    name = "hps_v2"
    paper = "Wu, Hao, Sun, Chen, Zhu, Zhao & Li 2023 (HPS v2)"
    higher_is_better = True

    def __init__(self, clip: ClipEmbedder) -> None:
        self._clip = clip

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        return 100 * self._clip.cosines([prompt.text for prompt in prompts], images)[:, None]
