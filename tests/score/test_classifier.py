"""Classifiers: probabilities are those of `transformers`; labels are checked by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from curation.config import ClassifierSettings
from curation.errors import ConfigError
from curation.score.classifier import Classifier
from tests.score.scenes import pictures, rows
from tests.tiny_models import tiny_classifier

COUNT = 7
LABELS = ("drawing", "photo", "screenshot")


def classifier(folder: Path, *labels: str) -> Classifier:
    operator = Classifier("safety", ClassifierSettings(model=str(folder), labels=labels))
    operator.check(online=False)
    operator.setup()
    return operator


def scores(folder: Path, *labels: str, batch: int = COUNT) -> np.ndarray:
    operator, images = classifier(folder, *labels), pictures(COUNT)
    parts = [images[i : i + batch] for i in range(0, COUNT, batch)]
    tables = [operator.process(rows([None] * len(part)), part) for part in parts]
    return np.concatenate([table["safety"].to_numpy() for table in tables])


def logits(folder: Path) -> np.ndarray:
    import torch
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    given = ViTImageProcessorPil.from_pretrained(folder)(images=pictures(COUNT), return_tensors="pt")
    with torch.inference_mode():
        return ViTForImageClassification.from_pretrained(folder)(**given).logits.numpy()


def test_score_is_the_probability_of_the_labels(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "three", LABELS)
    chances = np.exp(logits(folder)) / np.exp(logits(folder)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores(folder, "photo"), chances[:, 1], atol=1e-6)
    np.testing.assert_allclose(scores(folder, "screenshot", "drawing"), chances[:, [0, 2]].sum(axis=1), atol=1e-6)
    assert scores(folder, *LABELS) == pytest.approx(np.ones(COUNT), abs=1e-6)
    assert np.ptp(chances[:, 1]) > 0.05  # the model does tell the pictures apart


def test_labels_that_do_not_exclude_each_other(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "multi", LABELS, multi_label=True)
    np.testing.assert_allclose(scores(folder, "photo"), 1 / (1 + np.exp(-logits(folder)[:, 1])), atol=1e-6)
    assert scores(folder, *LABELS).max() <= 1


def test_batches_do_not_matter(classifier_folder: Path) -> None:
    whole = scores(classifier_folder, "nsfw")
    for batch in (1, 3):
        np.testing.assert_allclose(scores(classifier_folder, "nsfw", batch=batch), whole, atol=1e-6)


def test_unknown_labels_are_refused_with_those_that_there_are(classifier_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no label 'unsafe': normal, nsfw") as caught:
        classifier(classifier_folder, "nsfw", "unsafe")
    assert caught.value.path == "stages.score.classifiers.safety.labels"


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_classifier(tmp_path / "headless")
    state = load_file(folder / "model.safetensors")
    del state["classifier.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack classifier\.weight") as caught:
        classifier(folder, "nsfw")
    assert caught.value.path == "stages.score.classifiers.safety"


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "other", LABELS)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"], config["label2id"] = {"0": "a", "1": "b"}, {"a": 0, "b": 1}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:
        classifier(folder, "a")
    assert caught.value.path == "stages.score.classifiers.safety"


def test_a_folder_without_an_image_processor_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "bare")
    (folder / "preprocessor_config.json").unlink()
    operator = Classifier("safety", ClassifierSettings(model=str(folder), labels=("nsfw",)))
    with pytest.raises(ConfigError, match="AutoImageProcessor") as caught:
        operator.check(online=False)
    assert caught.value.path == "stages.score.classifiers.safety"
