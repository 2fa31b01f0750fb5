"""Sample a model and measure what it makes: `evaluate`. Ablations call it once a student, with the same arguments.

Pictures live for a batch alone, so any number of prompts at any size fits in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from curation.evaluate.metric import Floats, Metric, PromptMetric, SetMetric
from curation.evaluate.prompts import Prompt
from curation.evaluate.results import ALL, About, Results
from curation.stream.order import key_of

Sampler = Callable[[Sequence[str], Sequence[int]], Sequence[Image.Image]]
"""Prompts and a seed of noise for each → a picture for each. What it makes of a prompt must not depend on the batch."""
Seen = Callable[[Sequence[Prompt], Sequence[Image.Image]], None]


def evaluate(
    sample: Sampler,
    prompts: Sequence[Prompt],
    metrics: Sequence[Metric],
    *,
    seed: int = 0,
    batch: int = 32,
    seen: Seen | None = None,
) -> Results:
    """Measure a picture a prompt with all of `metrics`, `batch` pictures at a time.

    Noise comes from `noise_seeds`: with the same `seed` the n-th prompt has the same noise for every model. `seen` gets
    each batch too, to keep some of the pictures. Raises ValueError where there is no prompt, where two metrics share a
    name, or where `sample` gives too few or too many pictures.
    """
    if not prompts:
        raise ValueError("no prompts")
    about = _about(metrics)
    seeds = noise_seeds(len(prompts), seed)
    found: list[list[Floats]] = [[] for _ in metrics]
    for start in range(0, len(prompts), batch):
        asked = list(prompts[start : start + batch])
        made = sample([prompt.text for prompt in asked], seeds[start : start + batch])
        if len(made) != len(asked):
            raise ValueError(f"{len(made)} pictures for {len(asked)} prompts")
        images = [image.convert("RGB") for image in made]
        for metric, rows in zip(metrics, found, strict=True):
            rows.append(np.asarray(_of_each(metric, asked, images), np.float64))
        if seen is not None:
            seen(asked, images)
    kinds = tuple(prompt.kind for prompt in prompts)
    scores: dict[str, Floats] = {}
    sets: dict[str, dict[str, float]] = {}
    for metric, parts in zip(metrics, found, strict=True):
        whole = np.concatenate(parts)
        if isinstance(metric, PromptMetric):
            scores |= {column: whole[:, number] for number, column in enumerate(metric.columns)}
        elif isinstance(metric, SetMetric):
            asked_of = {kind: [kind in (ALL, own) for own in kinds] for kind in (*dict.fromkeys(kinds), ALL)}
            sets[metric.name] = {kind: metric.value(whole[mask]) for kind, mask in asked_of.items()}
    texts = tuple(prompt.text for prompt in prompts)
    return Results(prompts=texts, kinds=kinds, seeds=tuple(seeds), scores=scores, sets=sets, about=about)


def noise_seeds(count: int, seed: int = 0) -> list[int]:
    """A seed of noise for each of `count` prompts: 63 bits, a pure function of `seed` and of the prompt's place."""
    return [key_of(seed, "noise", place) >> 1 for place in range(count)]


def _of_each(metric: Metric, prompts: list[Prompt], images: list[Image.Image]) -> Floats:
    if isinstance(metric, PromptMetric):
        return metric.scores(prompts, images)
    if isinstance(metric, SetMetric):
        return np.asarray(metric.features(images), np.float64)
    raise TypeError(f"{type(metric).__name__} is neither a PromptMetric nor a SetMetric")


def _about(metrics: Sequence[Metric]) -> dict[str, About]:
    about: dict[str, About] = {}
    for metric in metrics:
        names = metric.columns if isinstance(metric, PromptMetric) else (metric.name,)
        for name in names:
            if name in about:
                raise ValueError(f"two metrics write {name!r}")
            about[name] = About(metric=metric.name, paper=metric.paper, higher_is_better=metric.higher_is_better)
    return about
