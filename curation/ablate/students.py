"""One student of an ablation, trained, asked and measured; and what it is compared with: the teacher, and the truth.

All of it is done once: a finished training is not done again, nor is an evaluation of the same pictures. Called by
`pipelines/ablate.py`, in its own process or in a task of Ray.
"""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from curation.ablate.corpora import training_thumbnails
from curation.ablate.measure import evaluation_identity, make_metrics, prompts_of
from curation.config import PackSettings
from curation.config.ablate import AblateConfig, SceneEvaluation
from curation.config.koala import TeacherSettings
from curation.config.train import TrainConfig
from curation.encode.signatures import teacher_signature
from curation.errors import ConfigError, RunError
from curation.evaluate.evaluate import Sampler, evaluate
from curation.evaluate.prompts import Prompt
from curation.evaluate.results import Results
from curation.evaluate.scenes import true_pictures
from curation.pack.encode import encode_image
from curation.pack.frame import cover
from curation.scenes.studio import SIDE
from curation.storage import Folder
from curation.stream.decode import Decoder
from curation.stream.sample import Sample
from curation.text import one_line
from curation.train.trained import teacher_of, teacher_sampler, trained_by, trained_sampler

if TYPE_CHECKING:
    from curation.train.watcher import Watcher

log = logging.getLogger(__name__)

EVALUATION = "evaluation.json"
PICTURES = "pictures"
SHOWN = 6
"""Pictures of each kind of prompt that are kept, for the report."""
SHOWN_SIDE = 256
"""Their longer side, pixels, at most."""
TEACHER, TRUTH = "teacher", "true pictures"


@dataclass(frozen=True, kw_only=True)
class Student:
    """One training of one arm."""

    arm: str
    pair: int
    """Students of the same number are pairs: same seed, same noise."""
    train: TrainConfig
    packed: str
    """The packed corpus of pictures, also where it is trained on their latents."""

    @property
    def folder(self) -> Path:
        return Path(self.train.output)


@contextmanager
def named(student: Student) -> Iterator[None]:
    """Settings of the training that turn out wrong in this block are told with whose they are."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"train.{error.path}", f"{error.problem} (of {student.folder.name})") from error


class Failures:
    """Students that cannot go on. The others do, and all that failed are told in the end."""

    def __init__(self) -> None:
        self._told: list[str] = []

    @contextmanager
    def kept(self, student: Student) -> Iterator[None]:
        """Keep what stops the run of this student, and want of memory; a wrong setting stops them all, or a bug."""
        try:
            yield
        except Exception as error:
            if not (isinstance(error, RunError) or lacks_memory(error)):
                raise
            log.exception("%s failed", student.folder)
            self._told.append(f"{student.folder.name}: {one_line(error, 300)}")

    def check(self) -> None:
        """Raises RunError where there are any."""
        if self._told:
            raise RunError(f"{len(self._told)} of the students failed, the others are done: {'; '.join(self._told)}")


def lacks_memory(error: BaseException) -> bool:
    """Whether it is torch's, of a GPU's memory; without importing torch."""
    return type(error).__name__ == "OutOfMemoryError"


def make_student(config: AblateConfig, student: Student, watcher: Watcher | None = None) -> None:
    """Train and evaluate, as far as that is not done."""
    from curation.train.run import train

    with named(student):
        train(student.train, watcher)
    evaluate_student(config, student)


def students_folder(config: AblateConfig) -> Path:
    """Where all students are."""
    return Path(config.output) / "students"


def trained_elsewhere(facts: Mapping[str, Any], corpus: str) -> bool:
    """Whether a `run.json` is of a training on another corpus than the one whose folder is called as `corpus`."""
    theirs = trained_by(facts)
    return theirs is not None and Path(theirs.data.corpora[0].path).name != corpus.rpartition("/")[2]


def student_facts(folder: Path) -> dict[str, Any] | None:
    """A student's `run.json`; None where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def evaluate_student(config: AblateConfig, student: Student) -> Results:
    """Evaluate a trained student, once. Its pictures lie beside it."""
    facts = student_facts(student.folder)
    assert facts is not None, f"{student.folder} is trained"
    identity = {"trained": facts["written"], "packed": student.packed}

    return _once(config, student.folder, identity, lambda: trained_sampler(student.train), student.packed)


def evaluate_references(config: AblateConfig, trainings: Sequence[TrainConfig], side: int) -> dict[str, Path]:
    """What students can reach at best, each evaluated once: name → its folder.

    Each different teacher of `trainings`, those that have one; and in the embedded world true pictures, which is how
    well the judge itself reads, and the same scaled down to `side` pixels and up again, as the arm of lowest resolution
    shows them.
    """
    places: dict[str, Path] = {}
    folder = Path(config.output) / "references"
    teachers = [teacher for one in trainings if (teacher := teacher_of(one.recipe)) is not None]
    different = {settings.model_dump_json(): settings for settings in teachers}
    for number, settings in enumerate(different.values()):
        name = TEACHER if len(different) == 1 else f"{TEACHER} {settings.model}"
        if name in places:  # the same model, set up in another way
            name = f"{name} ({number + 1})"
        places[name] = folder / f"teacher-{number}"
        _evaluate_teacher(config, settings, places[name])
    if isinstance(config.evaluation, SceneEvaluation):
        prompts = prompts_of(config.evaluation)
        places[TRUTH] = folder / "true"
        _evaluate_truth(config, prompts, None, places[TRUTH])
        if side < SIDE:
            reduced = f"{TRUTH} at {side} pixels, enlarged"
            places[reduced] = folder / f"true-{side}"
            _evaluate_truth(config, prompts, side, places[reduced])
    return places


def read_evaluation(folder: Path) -> tuple[Results, dict[str, Any]]:
    """The results beside a student, and all that is written of them."""
    written = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    return Results.from_json(written["results"]), written


def _evaluate_truth(config: AblateConfig, prompts: Sequence[Prompt], side: int | None, folder: Path) -> None:
    _once(config, folder, {"packed at": side}, lambda: _true(prompts, side), None)


def _evaluate_teacher(config: AblateConfig, settings: TeacherSettings, folder: Path) -> None:
    identity = {
        "settings": settings.model_dump(mode="json"),
        "files": teacher_signature("train.recipe.teacher", settings),
    }

    _once(config, folder, identity, lambda: teacher_sampler(settings), None)


def _once(
    config: AblateConfig, folder: Path, identity: dict[str, Any], make: Callable[[], Sampler], packed: str | None
) -> Results:
    """Evaluate what `make` gives a sampler for, unless `folder` holds that evaluation."""
    identity = {**identity, "evaluation": evaluation_identity(config.evaluation)}
    path = folder / EVALUATION
    if path.exists():
        results, written = read_evaluation(folder)
        if written["of"] == identity:
            return results
        path.unlink()  # the pictures beside it are going to be others
    started = time.monotonic()
    prompts = prompts_of(config.evaluation)
    scenes = isinstance(config.evaluation, SceneEvaluation)
    metrics = make_metrics(config.evaluation, training_thumbnails(packed) if scenes and packed else None)
    kept = _Kept(folder)
    results = evaluate(make(), prompts, metrics, seed=config.evaluation.seed, seen=kept)
    written = {
        "of": identity,
        "seconds": round(time.monotonic() - started, 1),
        "pictures": kept.told,
        "results": results.to_json(),
    }
    Folder(str(folder)).write_bytes(EVALUATION, json.dumps(written).encode())
    return results


class _Kept:
    """Keeps the first pictures of each kind of prompt, as `evaluate` shows them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / PICTURES
        self._folder.mkdir(parents=True, exist_ok=True)
        self._counts: dict[str, int] = {}
        self.told: list[dict[str, str]] = []

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> None:
        for prompt, image in zip(prompts, images, strict=True):
            number = self._counts.get(prompt.kind, 0)
            self._counts[prompt.kind] = number + 1
            if number < SHOWN:
                name = f"{prompt.kind}-{number}.png"
                small = image.copy()
                small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
                small.save(self._folder / name)
                self.told.append({"file": f"{PICTURES}/{name}", "kind": prompt.kind, "text": prompt.text})


def _true(prompts: Sequence[Prompt], side: int | None) -> Sampler:
    """True pictures in the place of a model's, in the order in which `evaluate` asks for them."""
    left: Iterator[Image.Image] = iter(true_pictures(prompts, "truth"))

    def sample(texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        return [_reduced(next(left), side) for _ in texts]

    return sample


def _reduced(image: Image.Image, side: int | None) -> Image.Image:
    """Packed at `side` pixels and shown at its own again, by what packs and shows an arm's pictures."""
    if side is None:
        return image
    file = io.BytesIO()
    image.save(file, "PNG")
    packed = encode_image(file.getvalue(), "png", cover(image.size, (side, side)), PackSettings(format="png"))
    shown = Decoder(image.width, upscale=True)(Sample("", {"png": memoryview(packed)}, 0), (side, side))
    return Image.fromarray(shown.pixels)
