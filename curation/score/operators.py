"""From the names in `stages.score.ops` to operators. Called when the stage is made: nothing is loaded yet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.config import ScoreSettings
from curation.config.score import MEASURED_BY_FETCH
from curation.errors import ConfigError
from curation.op import BatchOperator, ImageOperator, load_operator
from curation.row import IMAGE
from curation.score.aesthetic import Aesthetic
from curation.score.classifier import Classifier
from curation.score.clip import Clip

Scorer = BatchOperator | ImageOperator


@dataclass(frozen=True)
class Named:
    """An operator of the stage."""

    setting: str
    """Dotted path of its name."""
    name: str
    given: Clip | Aesthetic | Classifier | type[Scorer]
    """One of ours with its settings, or a user's class, which is constructed in the worker."""
    identity: dict[str, Any]
    """What changes its results."""

    @property
    def writes(self) -> tuple[pa.Field, ...]:
        return self.given.writes

    @property
    def reads(self) -> tuple[str, ...]:
        return self.given.reads

    def make(self) -> Scorer:
        """One for a worker, not yet set up."""
        return self.given() if isinstance(self.given, type) else copy.copy(self.given)

    def check(self, online: bool) -> None:
        """Look for its model. Raises ConfigError."""
        if not isinstance(self.given, type):
            self.given.check(online)


def name_operators(settings: ScoreSettings) -> list[Named]:
    """The operators to run, in order, without those that fetch has run. Raises ConfigError."""
    gpus = settings.run.gpus
    clip = Clip("stages.score.clip", settings.clip, gpus)
    makers: dict[str, Callable[[], Clip | Aesthetic | Classifier]] = {
        "clip": lambda: clip,
    }
    if (head := settings.aesthetic) is not None:
        makers["aesthetic"] = lambda: Aesthetic(head, clip)
    for name, classifier in settings.classifiers.items():
        makers[name] = lambda name=name, classifier=classifier: Classifier(name, classifier, gpus)  # type: ignore[misc]
    named = []
    for i, name in enumerate(settings.ops):
        setting = f"stages.score.ops.{i}"
        if name in settings.ops[:i]:
            raise ConfigError(setting, f"{name!r} is named twice")
        if name == "aesthetic":
            _check_aesthetic(settings, setting, settings.ops[:i])
        if name in MEASURED_BY_FETCH:
            continue
        if name in makers:
            given = makers[name]()
            named.append(Named(setting, name, given, {"op": name, "version": given.version, **given.identity()}))
        else:
            if name.isidentifier():
                known = ", ".join([*makers, *MEASURED_BY_FETCH])
                raise ConfigError(
                    setting,
                    f"no operator {name!r}: there is {known}; add it under `classifiers`, or name a class of yours as "
                    "package.module:Class",
                )
            cls = load_operator(name, setting)
            named.append(Named(setting, name, cls, {"op": name, "version": cls.version}))
    return named


def _check_aesthetic(settings: ScoreSettings, setting: str, before: Sequence[str]) -> None:
    if "clip" not in before:
        raise ConfigError(setting, "`aesthetic` works on CLIP's embedding: put `clip` before it")
    if settings.aesthetic is None:
        raise ConfigError("stages.score.aesthetic", "missing: `aesthetic` in `ops` needs the file of its head")


def check_columns(operators: Sequence[Named], schema: pa.Schema) -> None:
    """Refuse operators that read columns which are not there, or write ones which are. Raises ConfigError."""
    names = {*schema.names, IMAGE.name}
    for named in operators:
        missing = [column for column in named.reads if column not in names]
        if missing:
            raise ConfigError(named.setting, f"reads columns that are not there: {', '.join(missing)}")
        clash = [field.name for field in named.writes if field.name in names]
        if clash:
            raise ConfigError(named.setting, f"writes columns that exist already: {', '.join(clash)}")
        names.update(field.name for field in named.writes)
