"""Any image classifier of `transformers` as a score: the probability of some of its labels. Safety and watermark are
two configurations of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.config import ClassifierSettings
from curation.errors import ConfigError
from curation.score.model import ModelOperator

if TYPE_CHECKING:
    from PIL import Image


class Classifier(ModelOperator):
    """Writes the column `name`, 0 to 1."""

    auto_class = "AutoModelForImageClassification"

    def __init__(self, name: str, settings: ClassifierSettings, gpus: float = 0) -> None:
        super().__init__(f"stages.score.classifiers.{name}", settings, gpus)
        self.writes = (pa.field(name, pa.float32()),)
        self.labels = settings.labels

    def _check_config(self, config: Any) -> None:
        names = {label: i for i, label in config.id2label.items()}
        for label in self.labels:
            if label not in names:
                raise ConfigError(
                    f"{self.setting}.labels", f"{self.settings.model} has no label {label!r}: {', '.join(names)}"
                )
        self._wanted = sorted({int(names[label]) for label in self.labels})
        # A single output has nothing to be compared with: a softmax over it would always be 1.
        self._independent = config.problem_type == "multi_label_classification" or len(names) == 1

    def process(self, batch: pa.Table, images: Sequence[Image.Image]) -> pa.Table:
        import torch

        with torch.inference_mode():
            logits = self.model(pixel_values=self.pixels(images)).logits.float()
            chances = logits.sigmoid() if self._independent else logits.softmax(dim=-1)
            score = chances[:, self._wanted].sum(dim=-1).clamp(max=1)
        return batch.append_column(self.writes[0], pa.array(score.cpu().numpy().astype(np.float32)))
