"""From a config's `recipe` to the `Recipe` that the loop drives."""

from __future__ import annotations

from curation.config.few_step import FewStepSettings
from curation.config.koala import KoalaSettings
from curation.config.train import TrainConfig
from curation.config.wuerstchen import StageCSettings
from curation.train.recipe import Recipe


def make_recipe(config: TrainConfig) -> Recipe:
    """Loads the models. Raises ConfigError where they are missing or do not fit."""
    settings = config.recipe
    if isinstance(settings, KoalaSettings):
        from curation.distill.koala import Koala

        return Koala(settings, config.seed)
    if isinstance(settings, FewStepSettings):
        from curation.distill.few_step import FewStep

        return FewStep(settings)
    if isinstance(settings, StageCSettings):
        from curation.wuerstchen.stage_c import StageC

        return StageC(settings, config.seed)
    from curation.wuerstchen.stage_b import StageB

    return StageB(settings, config.seed)
