"""Settings of a training: a recipe, what it reads, and the loop around it. `train_hook.py` reads such a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from curation.config.base import Place, Settings
from curation.config.few_step import FewStepSettings
from curation.config.koala import KoalaSettings
from curation.config.stream import CorpusSettings, ReadRun, StreamSettings, check_weights
from curation.config.wuerstchen import StageBSettings, StageCSettings

RecipeSettings = Annotated[
    KoalaSettings | FewStepSettings | StageCSettings | StageBSettings, Field(discriminator="kind")
]
"""The families of models that can be trained, told apart by `kind`."""


class DataSettings(Settings):
    """What is read; `corpora` may be left out where the command names them."""

    corpora: tuple[CorpusSettings, ...] = ()
    """Packed corpora."""
    batch: int = Field(ge=1)
    """Samples of one pass through the model, over all ranks; `loop.accumulate` of them make a step."""
    resolution: int | None = Field(None, ge=16)
    """Pictures are scaled down to about this many pixels squared; not given: as they were packed."""
    upscale: bool = False
    """Enlarge pictures that were packed smaller than `resolution`. Their original size, which SDXL is conditioned on,
    is then the one that they were packed at: they have no more detail."""
    window: int = Field(128, ge=1)
    """As in `StreamSettings`."""
    tails: Literal["drop", "pad", "merge"] = "drop"
    """As in `StreamSettings`."""
    captions: dict[str, float] = Field({"primary": 1.0})
    """Kinds of caption and how often each is taken, as in `StreamSettings`."""
    damage: Literal["raise", "replace"] = "raise"
    """A damaged sample: stop, or take another one in its place."""
    damage_budget: int = Field(100, ge=0)
    """Damaged samples of an epoch over which the training stops."""
    workers: int = Field(0, ge=0)
    """Processes that read and decode, on each rank; speed only."""
    run: ReadRun = ReadRun()
    """Speed only."""

    @model_validator(mode="after")
    def _together(self) -> DataSettings:
        check_weights(self.corpora, self.captions)
        return self

    def stream(self, seed: int) -> StreamSettings:
        """What the stream takes of these."""
        kept = self.model_dump(exclude={"resolution", "upscale", "workers"})
        return StreamSettings.model_validate({**kept, "seed": seed})


class OptimizerSettings(Settings):
    """AdamW and its learning rate."""

    kind: Literal["adamw", "adamw8bit"] = "adamw"
    """`adamw8bit` keeps its state in 8 bits (Dettmers et al. 2022), by the package `bitsandbytes`."""
    lr: float = Field(1e-5, gt=0)
    """Learning rate after the warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Stays, or falls to 0 at the last step along half a cosine."""
    warmup: int = Field(0, ge=0)
    """Steps over which the rate rises from 0."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the averages of gradient and square."""
    weight_decay: float = Field(0.01, ge=0)
    eps: float = Field(1e-8, gt=0)
    clip: float | None = Field(1.0, gt=0)
    """Largest norm of a step's gradient."""


class EmaSettings(Settings):
    """An exponential average of the weights, which is what is sampled and saved."""

    decay: float = Field(0.9999, ge=0, lt=1)
    """Highest decay; it begins with 0 and rises as (1 + n) / (10 + n) after n updates."""
    every: int = Field(1, ge=1)
    """Steps between updates."""


def _no(given: Any) -> Any:
    """YAML reads a plain `no` as false."""
    return "no" if given is False else given


class LoopSettings(Settings):
    """The loop."""

    steps: int = Field(ge=1)
    """Optimiser steps."""
    accumulate: int = Field(1, ge=1)
    """Batches of a step."""
    precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_no)] = "no"
    """Of forward passes and frozen models; weights that learn stay in fp32."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more time."""
    compile: bool = False
    """`torch.compile` the model that learns."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of `metrics.jsonl`."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints; one is written at the end and when the run is stopped, too."""
    keep: int = Field(2, ge=1)
    """Checkpoints that are kept."""


class GridSettings(Settings):
    """Pictures for fixed prompts, while it learns and at the end."""

    prompts: tuple[str, ...] = ()
    """None: no grids."""
    every: int = Field(1000, ge=1)
    """Steps between grids."""
    seed: int = 0
    """Of the first prompt's noise; each prompt has its own."""


class TrainConfig(Settings):
    """A training."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Name of the run."""
    output: Place
    """Folder of the run, on a disk that all ranks share: checkpoints, metrics, report; `model/` is what was learnt."""
    seed: int = 0
    """Decides first weights, order, captions, noise and timesteps."""
    recipe: RecipeSettings
    """What is trained, and how."""
    data: DataSettings
    """What it is trained on."""
    optimizer: OptimizerSettings = OptimizerSettings()
    ema: EmaSettings | None = EmaSettings()
    """`null`: none."""
    loop: LoopSettings
    grids: GridSettings = GridSettings()

    @model_validator(mode="after")
    def _together(self) -> TrainConfig:
        if self.optimizer.warmup > self.loop.steps:
            raise ValueError(f"`optimizer.warmup` is longer than the {self.loop.steps} steps of `loop.steps`")
        if self.ema is not None and self.ema.every > self.loop.steps:
            raise ValueError(f"`ema.every` is more than `loop.steps`, {self.loop.steps}: the average would never move")
        return self
