"""What students are asked and what is measured of them: settings of the evaluation → prompts, metrics, named scores.

A metric's name, as `verdict.primary` takes it, is that of `metric_names`. In the embedded world it begins with how the
scenes were asked for: `rich.share`, `short.colour`, `rich.kid`. Called by `students.py`, `result.py` and `curate plan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.config.ablate import AblateConfig, MetricSettings, ModelEvaluation, SceneEvaluation
from curation.config.score import ModelSettings
from curation.errors import ConfigError
from curation.evaluate.clip_score import ClipScore
from curation.evaluate.cmmd import Cmmd
from curation.evaluate.embed import ClipEmbedder, embed_all
from curation.evaluate.kid import Kid
from curation.evaluate.metric import Floats, Metric
from curation.evaluate.nearest import Nearest
from curation.evaluate.preference import HpsV2, PickScore, PreferenceClip
from curation.evaluate.prompts import Prompt, held_out_prompts
from curation.evaluate.results import About, Results
from curation.evaluate.scenes import JudgeMetric, judge_features, true_pictures
from curation.evaluate.spectrum import HighFrequency, SpectrumDistance
from curation.evaluate.vqa import VqaScore
from curation.model_signature import model_signature
from curation.models import check_model
from curation.scenes.judge import ASKED, Mentioned
from curation.text import one_line

SCENE_KINDS: dict[str, Mentioned] = {"rich": "dense", "short": "short"}
"""How scenes are asked for, in settings, and the kind of description that it is."""
OF_PICTURES = (HighFrequency.name, SpectrumDistance.name, "kid", Nearest.name)
"""Metrics of the embedded world beside the judge's."""
UNJUDGED = {
    HighFrequency.name: "is best at 1, so more is not better",
    Nearest.name: "falls with the number of training pictures alone",
}
"""Metrics of which neither more nor less is better."""
VERSION = 1
"""To be raised where the judge, the studio or a metric comes to measure otherwise: older evaluations are done again."""
MODEL_METRICS = {"clip": "clip_score", "pickscore": "pick_score", "hpsv2": "hps_v2", "vqa": "vqa_score"}
"""Names in settings, and the metrics' own where they differ."""
FEWEST = 2
"""Prompts, and reference pictures: fewer have no spread."""
THUMBNAIL = 12
"""Pixels a side at which pictures are compared with those that were trained on."""

Evaluation = SceneEvaluation | ModelEvaluation


def metric_names(evaluation: Evaluation) -> tuple[str, ...]:
    """All that is measured."""
    if isinstance(evaluation, ModelEvaluation):
        return tuple(metric.name for metric in evaluation.metrics)
    return tuple(
        f"{kind}.{name}"
        for kind in evaluation.asked
        for name in ("share", *ASKED[SCENE_KINDS[kind]], "all_right", *OF_PICTURES)
    )


def check_metrics(config: AblateConfig) -> None:
    """Refuse a verdict about what is not measured. Raises ConfigError."""
    names = metric_names(config.evaluation)
    given = [("verdict.primary", config.verdict.primary)]
    given += [(f"verdict.secondaries.{i}", name) for i, name in enumerate(config.verdict.secondaries)]
    for path, name in given:
        if name not in names:
            raise ConfigError(path, f"{name!r} is not measured; there is {', '.join(names)}")
        if (why := UNJUDGED.get(name.partition(".")[2])) is not None:
            raise ConfigError(path, f"{name!r} {why}; it is reported, and judges nothing")


def check_models(config: AblateConfig) -> None:
    """Refuse metrics whose models, or whose reference pictures, are not there. Raises ConfigError."""
    if not isinstance(config.evaluation, ModelEvaluation):
        return
    for path, metric in _placed(config.evaluation):
        _scorer(path, metric, 0).check(online=True)
        if metric.processor is not None:
            check_model(f"{path}.processor", metric.processor, None, online=True)
    if config.evaluation.reference is not None:
        for picture in _reference_files(config.evaluation):
            with _opened(picture):
                pass  # its header


def evaluation_identity(evaluation: Evaluation) -> dict[str, Any]:
    """What decides the scores of a given model: settings, prompts, and of local files what they hold."""
    texts = "\n".join(f"{prompt.kind}\t{prompt.text}" for prompt in prompts_of(evaluation))
    found: dict[str, Any] = {
        "version": VERSION,
        "settings": evaluation.model_dump(mode="json"),
        "prompts": hashlib.sha256(texts.encode()).hexdigest(),
    }
    if isinstance(evaluation, ModelEvaluation):
        read = {path: metric.model for path, metric in _placed(evaluation)}
        read |= {f"{path}.processor": m.processor for path, m in _placed(evaluation) if m.processor is not None}
        found["models"] = {path: model_signature(path, model) for path, model in read.items()}
        if evaluation.reference is not None:
            files = _reference_files(evaluation)
            found["reference"] = _digest(tuple((str(path), path.stat().st_mtime_ns) for path in files))
    return found


def prompts_of(evaluation: Evaluation) -> list[Prompt]:
    """What is asked, in order. Raises ConfigError where the file of prompts cannot be read or holds too few."""
    if isinstance(evaluation, SceneEvaluation):
        kinds = [SCENE_KINDS[kind] for kind in evaluation.asked]
        return held_out_prompts(evaluation.prompts, kinds, ("ablation", evaluation.seed))
    try:
        lines = Path(evaluation.prompts).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("evaluation.prompts", f"cannot read {evaluation.prompts}: {error}") from None
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(texts) < FEWEST:
        raise ConfigError("evaluation.prompts", f"{evaluation.prompts} holds {len(texts)} prompts; {FEWEST} are fewest")
    return [Prompt(text=text, kind="prompt") for text in texts]


def make_metrics(evaluation: Evaluation, training: npt.NDArray[np.floating] | None = None) -> list[Metric]:
    """The metrics, their models loaded. `training`: `thumbnails` of what the model was trained on (scenes alone)."""
    if isinstance(evaluation, ModelEvaluation):
        return _of_models(evaluation)
    asked = held_out_prompts(evaluation.prompts, ("dense",), ("ablation", evaluation.seed))
    reference = true_pictures(asked)
    known = {prompt.scene for prompt in asked}
    # KID takes the two sets for independent: its reference is of other scenes than those that are asked for.
    others = held_out_prompts(2 * evaluation.prompts, ("dense",), ("reference", evaluation.seed))
    other = [prompt for prompt in others if prompt.scene not in known][: evaluation.prompts]
    metrics: list[Metric] = [
        JudgeMetric(),
        HighFrequency(reference),
        SpectrumDistance(reference),
        Kid(judge_features, judge_features(true_pictures(other))),
    ]
    return metrics if training is None else [*metrics, Nearest(thumbnails, training)]


def scores_of(evaluation: Evaluation, results: Results) -> dict[str, Floats]:
    """By name, float64 [prompts of its kind]; [1] for metrics of a whole set. What was not measured is left out."""
    found: dict[str, Floats] = {}
    if isinstance(evaluation, ModelEvaluation):
        for metric in evaluation.metrics:
            own = MODEL_METRICS.get(metric.name, metric.name)
            found[metric.name] = results.scores[own] if own in results.scores else np.array([results.sets[own]["all"]])
        return found
    for kind in evaluation.asked:
        described = SCENE_KINDS[kind]
        mine = np.array([own == described for own in results.kinds])
        for column, scores in results.scores.items():
            if not np.isnan(scores[mine]).all():
                found[f"{kind}.{column.removeprefix('judge.')}"] = scores[mine]
        for name, values in results.sets.items():
            found[f"{kind}.{name}"] = np.array([values[described]], np.float64)
    return found


def directions(evaluation: Evaluation, results: Results) -> dict[str, bool | None]:
    """By name, whether more is better; None where neither is."""
    found = {}
    for name in scores_of(evaluation, results):
        found[name] = about(evaluation, results, name).higher_is_better
    return found


def about(evaluation: Evaluation, results: Results, name: str) -> About:
    """What is known of a metric by its name in settings."""
    own = name.partition(".")[2] if isinstance(evaluation, SceneEvaluation) else MODEL_METRICS.get(name, name)
    return results.about.get(own) or results.about[f"judge.{own}"]


def thumbnails(images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
    """[N, THUMBNAIL² · 3], values in [0, 1]: what is left of a picture at the lowest resolution of any arm."""
    small = [i.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX) for i in images]
    return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])


def _of_models(evaluation: ModelEvaluation) -> list[Metric]:
    gpus = _gpus()
    embedders: dict[tuple[str | None, ...], ClipEmbedder] = {}
    made: list[Metric] = []
    for path, metric in _placed(evaluation):
        key = metric.model, metric.revision, metric.processor
        if key not in embedders:
            scorer = _scorer(path, metric, gpus)
            scorer.setup()
            if isinstance(scorer, VqaScore):
                made.append(scorer)
                continue
            embedders[key] = ClipEmbedder(scorer)
        embed = embedders[key]
        compared = embed_all(embed, _reference(evaluation)) if metric.name in ("cmmd", "kid") else None
        made.append(_of_clip(metric.name, embed, compared))
    return made


def _placed(evaluation: ModelEvaluation) -> list[tuple[str, MetricSettings]]:
    """Each metric with the dotted path of its settings."""
    return [(f"evaluation.metrics.{place}", metric) for place, metric in enumerate(evaluation.metrics)]


def _scorer(path: str, metric: MetricSettings, gpus: float) -> VqaScore | PreferenceClip:
    """What computes a metric, not yet loaded."""
    model = ModelSettings(model=metric.model, revision=metric.revision)
    if metric.name == "vqa":
        return VqaScore(path, model, gpus)
    processor = None if metric.processor is None else ModelSettings(model=metric.processor)
    return PreferenceClip(path, model, processor, gpus)


def _of_clip(name: str, embed: ClipEmbedder, reference: npt.NDArray[np.floating] | None) -> Metric:
    if reference is not None:
        # Embeddings have length 1: with the paper's gamma of 1/D the kernel would hardly see more than their means.
        return Cmmd(embed, reference) if name == "cmmd" else Kid(embed, reference, gamma=1)
    if name == "clip":
        return ClipScore(embed)
    return PickScore(embed) if name == "pickscore" else HpsV2(embed)


@cache
def _digest(files: tuple[tuple[str, int], ...]) -> str:
    """Of what the files hold, in order; once a process, for each student asks."""
    parts = [hashlib.sha256(Path(path).read_bytes()).digest() for path, _ in files]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _reference(evaluation: ModelEvaluation) -> Iterator[Image.Image]:
    for path in _reference_files(evaluation):
        with _opened(path) as image:
            yield image.convert("RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Raises ConfigError where it is no picture, or turns out a damaged one in the block."""
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError("evaluation.reference", f"{path} is no whole picture: {one_line(error)}") from error


def _reference_files(evaluation: ModelEvaluation) -> list[Path]:
    """Raises ConfigError where there are too few."""
    assert evaluation.reference is not None
    folder = Path(evaluation.reference).expanduser()
    paths = sorted(p for p in folder.glob("**/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if len(paths) < FEWEST:
        told = f"{len(paths)} pictures (jpg, png, webp) in {folder}; {FEWEST} are fewest"
        raise ConfigError("evaluation.reference", told)
    return paths


def _gpus() -> float:
    import torch

    return 1.0 if torch.cuda.is_available() else 0.0
