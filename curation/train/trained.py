"""A training seen from outside: which models it reads, who teaches, and pictures by what it learnt. Ablations ask this,
so that they need not know the recipes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from curation.config.few_step import FewStepSettings
from curation.config.koala import KoalaSettings, SamplingSettings, TeacherSettings
from curation.config.train import RecipeSettings, TrainConfig
from curation.config.wuerstchen import StageBSettings, StageCSettings
from curation.encode.signatures import compressor_signature, part_signature, teacher_signature, text_signatures
from curation.errors import ConfigError
from curation.evaluate.evaluate import Sampler
from curation.hub import fetch_file
from curation.models import is_local
from curation.stream.corpus import manifest_hash

MODEL = "model"
"""Where below its output a training leaves what it learnt."""
READ = "read"
"""What `run.json` calls the models of `models_read`."""
CORPORA = "corpora"
"""What it calls the SHA-256 of the corpora's manifests."""


class TokenizerPlace(NamedTuple):
    """Where a recipe's tokenizer is."""

    model: str
    revision: str | None
    subfolder: str


def check_paints(recipe: RecipeSettings) -> None:
    """Refuse recipes that learn only a part of what paints. Raises ConfigError."""
    if isinstance(recipe, StageBSettings):
        raise ConfigError(
            "recipe.kind", "Stage B alone does not paint what a prompt says: compare students of wuerstchen_c"
        )


def teacher_of(recipe: RecipeSettings) -> TeacherSettings | None:
    """Who teaches, if anybody does."""
    return recipe.teacher if isinstance(recipe, KoalaSettings | FewStepSettings) else None


def tokenizer_of(recipe: RecipeSettings) -> TokenizerPlace | None:
    """The tokenizer that captions are read with, if any are."""
    if (teacher := teacher_of(recipe)) is not None:
        return TokenizerPlace(teacher.model, teacher.revision, "tokenizer")
    text = recipe.text if isinstance(recipe, StageCSettings | StageBSettings) else None
    return TokenizerPlace(text.model, text.revision, text.tokenizer or text.subfolder or "") if text else None


def models_read(recipe: RecipeSettings) -> dict[str, Any]:
    """Hashes of the models that a training reads and its settings name, so that one that was trained again in the same
    place does not pass for the old one; of models on the hub, their names. Raises ConfigError where one is missing."""
    if (teacher := teacher_of(recipe)) is not None:
        return teacher_signature("recipe.teacher", teacher)
    assert isinstance(recipe, StageCSettings | StageBSettings)
    found = {"compressor": compressor_signature("recipe.compressor", recipe.compressor)}
    if recipe.text is not None:
        found |= text_signatures("recipe.text", recipe.text)
    if isinstance(recipe, StageBSettings):
        parts = {"recipe.vqgan": recipe.vqgan, "recipe.decoder.weights": recipe.decoder.weights}
    else:
        decode = recipe.decode
        parts = {
            "recipe.decode.decoder": decode.decoder,
            "recipe.decode.vqgan": decode.vqgan,
            "recipe.decode.text": decode.text,
            "recipe.prior.weights": recipe.prior.weights,
        }
    return found | {setting: part_signature(setting, part) for setting, part in parts.items() if part is not None}


def check_teacher(recipe: RecipeSettings) -> None:
    """Ask the hub for a teacher that is no folder here, before anything else is paid for. Raises ConfigError."""
    teacher = teacher_of(recipe)
    if teacher is not None and not is_local(teacher.model):
        fetch_file("recipe.teacher.model", teacher.model, "model_index.json", teacher.revision)


def of_same_models(facts: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether the models that a `run.json` was made with are those of `config` today; also where nobody can tell."""
    try:
        read = json.loads(json.dumps(models_read(config.recipe)))
    except ConfigError:  # one is gone, and so nobody has trained it again in its place
        return True
    return bool(facts.get(READ, read) == read)


def of_same_corpora(facts: Mapping[str, Any], config: TrainConfig) -> bool:
    """The same of the corpora."""
    read = [manifest_hash(corpus.path) for corpus in config.data.corpora]
    there = facts.get(CORPORA, read)
    return len(there) == len(read) and all(today in (None, then) for then, today in zip(there, read, strict=True))


def trained_by(facts: Mapping[str, Any]) -> TrainConfig | None:
    """The settings that a `run.json` was made by, as they are read today: one that came since has its default. None
    where they are no settings any more."""
    try:
        return TrainConfig.model_validate(facts["config"])
    except (KeyError, ValidationError):
        return None


def trained_sampler(train: TrainConfig) -> Sampler:
    """Loads what a finished training learnt, on a GPU where there is one."""
    recipe, model = train.recipe, Path(train.output) / MODEL
    if isinstance(recipe, KoalaSettings | FewStepSettings):
        from curation.sdxl import load_pipeline

        return pipeline_sampler(load_pipeline("output", str(model)), recipe.student_sampling)
    import torch

    from curation.wuerstchen.cascade import load_wuerstchen

    cascade = load_wuerstchen(model)
    gpu = torch.cuda.is_available()
    cascade.to(torch.device("cuda" if gpu else "cpu"), torch.bfloat16 if gpu else torch.float32)
    return cascade.sample


def teacher_sampler(teacher: TeacherSettings) -> Sampler:
    """The same of a teacher."""
    from curation.distill.teacher import Teacher

    loaded = Teacher(teacher)
    return pipeline_sampler(loaded.pipeline_of(loaded.unet), teacher.sampling)


def pipeline_sampler(pipeline: Any, sampling: SamplingSettings) -> Sampler:
    """A `StableDiffusionXLPipeline`, in fp16 on a GPU (the VAE in fp32 where it says that fp16 is too little), else in
    fp32."""
    import torch

    from curation.distill.sampling import sample
    from curation.sdxl import move

    gpu = torch.cuda.is_available()
    move(pipeline, "cuda" if gpu else "cpu", torch.float16 if gpu else torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return lambda texts, seeds: sample(pipeline, texts, seeds, sampling)
