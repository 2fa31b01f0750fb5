"""What a metric is: numbers of each picture (`PromptMetric`), or one number of a set of pictures (`SetMetric`).

Metrics hold no state between batches, so one object serves all arms of an ablation; a model that it needs is loaded by
whoever makes it. `curation.evaluate.evaluate` calls them; write your own by filling in one of the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.evaluate.prompts import Prompt

Floats = npt.NDArray[np.float64]
Embed = Callable[[Sequence[Image.Image]], npt.NDArray[np.floating]]
"""RGB pictures → features [N, D]: CLIP's, the judge's, or any other."""


class Metric(ABC):
    """Base of both kinds."""

    name: str
    """Unique among the metrics of one evaluation."""
    paper: str
    """Where it comes from: authors and year, and what was published."""
    higher_is_better: bool | None = True
    """None where neither is: a ratio whose best is 1."""


class PromptMetric(Metric):
    """Numbers of each picture by itself."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers; they begin with the metric's name."""
        return (self.name,)

    @abstractmethod
    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        """[N, len(columns)] for N prompts and their RGB pictures; NaN where a prompt does not ask for it."""


class SetMetric(Metric):
    """One number of many pictures."""

    @abstractmethod
    def features(self, images: Sequence[Image.Image]) -> npt.NDArray[np.floating]:
        """What `value` needs to know of each of N RGB pictures: [N, D]."""

    @abstractmethod
    def value(self, features: Floats) -> float:
        """The number of the pictures with these features [N, D]; NaN where there are too few of them."""
