"""From a config's `recipe` to the `Recipe` that the loop drives."""

from __future__ import annotations

from curation.config.koala import KoalaSettings
from curation.config.train import TrainConfig
from curation.train.recipe import Recipe


def make_recipe(config: TrainConfig) -> Recipe:
    """Loads the models. Raises ConfigError where they are missing or do not fit."""
    settings = config.recipe
    if isinstance(settings, KoalaSettings):
        from curation.distill.koala import Koala

        return Koala(settings, config.seed)
    from curation.distill.few_step import FewStep

    return FewStep(settings)
