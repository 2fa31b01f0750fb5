"""Each training runs from end to end in a few steps, what it saves loads where it is used, and a training that was
stopped and goes on ends at the very weights of an unbroken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curation.config import ClassifierSettings, ModelSettings
from curation.scenes.zoo import aesthetic, captioner, captioner_parts, classifiers, clip
from curation.scenes.zoo.cards import EVALUATION
from curation.scenes.zoo.tokenizer import make_tokenizer
from curation.scenes.zoo.training import Training
from curation.score.classifier import Classifier
from curation.score.clip import Clip

STEPS = 2
TOKENIZER = make_tokenizer()
PROCESSOR = captioner_parts.make_processor(captioner_parts.make_tokenizer())
Taught = tuple[nn.Module, Callable[[int], Tensor]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def clip_parts() -> Taught:
    parts = clip.Parts(TOKENIZER)
    return parts, lambda step: clip.losses(parts, TOKENIZER, clip.make_batch(0, 2, step))


def tower_parts() -> Taught:
    parts = captioner.Tower()

    def loss(step: int) -> Tensor:
        given = captioner.make_seen(0, 1, step)
        return parts.head.loss(parts.patches(given.images), torch.from_numpy(given.classes))

    return parts, loss


def speaking_parts() -> Taught:
    model = captioner_parts.make_captioner(PROCESSOR.tokenizer, captioner_parts.make_tower())
    model.model.vision_tower.requires_grad_(False)
    return model, lambda step: captioner.answer_loss(model, PROCESSOR, captioner.make_told(0, 1, step))


@pytest.mark.parametrize("make", [clip_parts, tower_parts, speaking_parts], ids=lambda make: make.__name__)
def test_a_training_goes_on_to_the_same_bits(make: Callable[[], Taught], tmp_path: Path) -> None:
    def trained(work: Path, stop: int | None = None) -> dict[str, Tensor]:
        work.mkdir(exist_ok=True)
        torch.manual_seed(0)
        parts, loss = make()
        training = Training("toy", parts, work, steps=STEPS, lr=1e-3)
        assert training.step == (1 if stop is None and (work / "toy.pt").exists() else 0)

        def interrupted(step: int) -> Tensor:
            if step == stop:
                training.save()
                raise KeyboardInterrupt
            return loss(step)

        training.run(interrupted)
        training.finish()
        return parts.state_dict()

    unbroken = trained(tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "broken", stop=1)
    resumed = trained(tmp_path / "broken")
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("clip")
    clip.train(2, 4, 0, work, work / "model", processes=0, judged=4)
    return work / "model"


def test_clip_loads_in_the_score_stage(clip_folder: Path) -> None:
    operator = Clip("stages.score.clip", ModelSettings(model=str(clip_folder)))
    operator.check(online=False)
    operator.setup()
    assert operator.side == clip.SIDE
    shots = [clip.shot(i) for i in range(2)]
    embedded = operator.embed_images([s.decoded(operator.side) for s in shots])
    assert embedded.shape == (2, clip.WIDTH)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)
    assert operator.embed_texts(["a red star", "a blue ring"]).shape == (2, clip.WIDTH)
    facts = json.loads((clip_folder / EVALUATION).read_text())
    assert facts["steps"] == 2
    assert 0 <= facts["quality"][clip.RETRIEVAL] <= 1
    assert facts["bytes"] == (clip_folder / "model.safetensors").stat().st_size < 2.2 * facts["parameters"]


def test_found_counts_rows_whose_own_answer_is_nearest() -> None:
    rows = np.eye(4, dtype=np.float32)
    assert clip.found(rows, rows) == 1
    assert clip.found(rows, rows[[1, 0, 2, 3]]) == 0.5


def test_the_aesthetic_head_loads_and_is_measured(clip_folder: Path, tmp_path: Path) -> None:
    aesthetic.train(1, 30, 0, tmp_path / "head", clip_folder, judged=6)
    weight, _ = aesthetic.load_head(str(tmp_path / "head" / aesthetic.FILE))
    assert weight.shape == (clip.WIDTH,)
    facts = json.loads((tmp_path / "head" / EVALUATION).read_text())
    assert -1 <= facts["quality"][aesthetic.SPEARMAN] <= 1


def test_fit_finds_a_linear_truth_and_spearman_orders() -> None:
    rng = np.random.default_rng(0)
    given, truth = rng.normal(size=(500, 8)), rng.normal(size=8)
    weight, bias = aesthetic.fit(given, given @ truth + 3)
    np.testing.assert_allclose(weight, truth, atol=1e-3)
    assert bias == pytest.approx(3, abs=1e-3)
    assert aesthetic.spearman(np.array([1.0, 2, 2, 5]), np.array([0.1, 0.2, 0.2, 0.3])) == pytest.approx(1)
    assert aesthetic.spearman(np.array([1.0, 2, 3]), np.array([9.0, 5, 1])) == pytest.approx(-1)


@pytest.mark.parametrize("task", classifiers.LABELS)
def test_a_classifier_loads_in_the_score_stage(task: str, tmp_path: Path) -> None:
    classifiers.train(task, 2, 4, 0, tmp_path, tmp_path / "model", processes=0, judged=6)
    settings = ClassifierSettings(model=str(tmp_path / "model"), labels=classifiers.LABELS[task][1:])
    operator = Classifier(task, settings)
    operator.check(online=False)
    facts = json.loads((tmp_path / "model" / EVALUATION).read_text())
    assert 0 <= facts["quality"][classifiers.AUC] <= 1


def test_examples_of_a_classifier_are_half_and_half() -> None:
    for task in classifiers.LABELS:
        shown = [classifiers.example(task, ("half", i))[1] for i in range(300)]
        assert 0.4 < np.mean(shown) < 0.6


def test_auc_counts_pairs() -> None:
    scores = np.array([0.9, 0.6], np.float32)
    assert classifiers.auc(scores, np.array([0.1, 0.6, 0.95], np.float32)) == pytest.approx(3.5 / 6)


def test_the_captioner_loads_in_the_caption_stage(tmp_path: Path) -> None:
    captioner.train(1, 1, 1, 0, tmp_path, tmp_path / "model", processes=0, judged=1)
    facts = json.loads((tmp_path / "model" / EVALUATION).read_text())
    assert facts["steps"] == 2
    assert 0 <= facts["quality"][captioner.F1] <= 1
    assert facts["bytes"] < 2.2 * facts["parameters"]
