"""The arms of an ablation as whole, validated settings, and everything in which they differ. Called by `curate ablate`.

Differences are computed from the settings that an arm ends up with, not from its overrides: a default that an override
brings with it is a difference too, and an override that says what the base says is none.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.config import Config
from curation.config.ablate import AblateConfig
from curation.config.train import TrainConfig
from curation.errors import ConfigError
from curation.load import assign, load, make
from curation.pack.captions import kinds_told
from curation.stream.sample import EMPTY, PRIMARY

_GIVEN = ("name", "output", "train.name", "train.output", "train.seed", "train.data.corpora")
"""What the ablation decides itself, of curation and training."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm."""

    name: str
    levels: Mapping[str, str]
    """Its level of each factor of the grid; empty for a single arm."""
    curate: Config
    """What its corpus is made by: the same name and output for all arms, so that they share stage folders."""
    train: TrainConfig
    """What its students are trained by; `train_config` puts in a student's seed, output and corpus."""
    overrides: Mapping[str, tuple[str, Any]]
    """Dotted path → where in the ablation's file it is overridden, and the value."""

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Settings that turn out wrong in this block are told by their place in the ablation's file. A path is one of
        the curation, or one of the training with `train.` before it."""
        try:
            yield
        except ConfigError as error:
            if error.path.split(".")[0] not in {*Config.model_fields, "train"}:  # an argument, like --address
                raise
            told = f"{error.problem} (in arm {self.name!r})"
            raise ConfigError(_blamed(error.path, self.overrides), told) from error


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting in which arms differ."""

    path: str
    """Dotted, with `train.` before settings of the training."""
    values: Mapping[str, Any]
    """By arm, as in JSON; an arm that has no such setting is left out."""


def load_ablate_config(path: str | Path, overrides: Iterable[str] = ()) -> AblateConfig:
    """Settings of an ablation and of all its arms, checked; as `curation.load.load`. Raises ConfigError."""
    config = load(path, overrides, model=AblateConfig, dotted={"arms": 1, "grid": 2})
    expand(config)
    return config


def expand(config: AblateConfig) -> tuple[Arm, ...]:
    """All arms, in the order of `config.levels`. Raises ConfigError with the path of a setting that cannot be."""
    arms = tuple(_arm(config, name, levels) for name, levels in config.levels.items())
    own = {arm.name: f"{arm.train.loop.steps:,} × {_seen(arm)}" for arm in arms}
    if config.fairness == "equal_steps" and len(set(own.values())) > 1:
        told = ", ".join(f"{name} {steps}" for name, steps in own.items())
        raise ConfigError("fairness", f"steps are not equal ({told}); `as_set` leaves them to the arms")
    return arms


def train_config(
    config: AblateConfig, arm: Arm, pair: int, *, output: str, corpus: str, steps: int | None = None
) -> TrainConfig:
    """The training of `arm`'s student number `pair`, from 0 on, on the packed `corpus`.

    The same number has the same seed in all arms: first weights, noise and timesteps are equal, and so the arms'
    students are pairs. `steps` are those of `steps_of`; not given: the arm's own.
    """
    data = arm.train.model_dump()
    data |= {"name": f"{arm.name}-{pair}"[-64:], "output": output, "seed": config.seed + pair}
    data["data"]["corpora"] = [{"path": corpus}]
    if steps is not None:
        before = arm.train.loop.steps
        data["loop"]["steps"] = steps
        data["optimizer"]["warmup"] = min(steps, round(arm.train.optimizer.warmup * steps / before))
    return make(data, model=TrainConfig, under="train")


def steps_of(
    config: AblateConfig, arms: Sequence[Arm], samples: Mapping[str, int], flops: Mapping[str, int]
) -> dict[str, int]:
    """Optimiser steps of each arm, by `config.fairness`; `samples` are those of the arms' corpora, `flops` what
    training costs a sample: each is asked for where fairness wants it.

    `equal_epochs`: as many passes for all as the arm makes that makes fewest in its own `loop.steps`; `equal_flops`: as
    many FLOPs as the arm spends that spends fewest. At least 1 step. The warm-up is shortened in proportion, by
    `train_config`. Raises ValueError for an arm without samples.
    """
    own = {arm.name: arm.train.loop.steps for arm in arms}
    if config.fairness in ("equal_steps", "as_set"):
        return own
    seen = {arm.name: _seen(arm) for arm in arms}
    if config.fairness == "equal_flops":
        spent = {name: float(flops[name] * seen[name]) for name in own}  # by a step
    else:
        empty = [name for name in own if samples[name] < 1]
        if empty:
            raise ValueError(f"arms without samples: {', '.join(empty)}")
        spent = {name: seen[name] / samples[name] for name in own}
    least = min(own[name] * spent[name] for name in own)
    return {name: max(1, round(least / spent[name])) for name in own}


def _seen(arm: Arm) -> int:
    """Samples of a step."""
    return arm.train.data.batch * arm.train.loop.accumulate


def differences(arms: Sequence[Arm]) -> tuple[Difference, ...]:
    """Every setting that is not the same in all `arms`, by path; those of the curation first."""
    settings = {arm.name: _flat(arm) for arm in arms}
    paths = dict.fromkeys(path for flat in settings.values() for path in flat)
    found = []
    for path in sorted(paths, key=lambda p: (p.startswith("train."), p)):
        values = {name: flat[path] for name, flat in settings.items() if path in flat}
        first = next(iter(values.values()))
        if len(values) < len(settings) or any(_differs(value, first) for value in values.values()):
            found.append(Difference(path=path, values=values))
    return tuple(found)


def _differs(one: Any, other: Any) -> bool:
    return bool(one != other) or isinstance(one, bool) != isinstance(other, bool)  # True == 1


def _flat(arm: Arm) -> dict[str, Any]:
    return {**flatten(arm.curate.model_dump(mode="json")), **flatten(arm.train.model_dump(mode="json"), "train")}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted path → leaf, of mappings and of lists of mappings; other lists are values, and so is what is empty."""
    if isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        value = {str(index): inner for index, inner in enumerate(value)}
    if not (isinstance(value, dict) and value):
        return {path: value}
    before = f"{path}." if path else ""
    return {p: leaf for key, inner in value.items() for p, leaf in flatten(inner, f"{before}{key}").items()}


def _arm(config: AblateConfig, name: str, levels: Mapping[str, str]) -> Arm:
    parts = {f"grid.{factor}.{level}": config.grid[factor][level] for factor, level in levels.items()}
    places = _placed(parts or {f"arms.{name}": config.arms[name]})
    curate = {"output": f"{config.output.rstrip('/')}/data", **copy.deepcopy(config.base)}
    train = copy.deepcopy(config.train)
    _refuse(curate, "name", "base")
    for key in ("name", "output", "seed"):
        _refuse(train, key, "train")
    if isinstance(train.get("data"), dict):
        _refuse(train["data"], "corpora", "train.data")
    for path, (where, value) in places.items():
        target, key = (train, path.removeprefix("train.")) if path.startswith("train.") else (curate, path)
        try:
            assign(target, key, copy.deepcopy(value))
        except ConfigError as error:
            raise ConfigError(f"{where}.{path}", error.problem) from None
    curate["name"] = _corpus_name(config)
    train |= {"name": config.name, "output": config.output, "seed": config.seed}
    try:
        curation, training = make(curate, model=Config), make(train, model=TrainConfig, under="train")
        _check_captions(curation, training)
        if training.data.batch % config.run.workers:
            told = f"{training.data.batch} samples cannot be shared out to the {config.run.workers} of `run.workers`"
            raise ConfigError("train.data.batch", told)
        return Arm(name=name, levels=dict(levels), curate=curation, train=training, overrides=places)
    except ConfigError as error:
        raise ConfigError(_blamed(error.path, places), f"{error.problem} (in arm {name!r})") from None


def _check_captions(curation: Config, training: TrainConfig) -> None:
    """Refuse kinds of caption that the corpus cannot have, as far as settings tell. Raises ConfigError."""
    there = kinds_told(curation)
    for kind, weight in training.data.captions.items():
        if weight and there is not None and kind not in (PRIMARY, EMPTY, *there):
            known = ", ".join((PRIMARY, EMPTY, *there))
            raise ConfigError(f"train.data.captions.{kind}", f"the corpus has no such captions; there is {known}")


def _corpus_name(config: AblateConfig) -> str:
    """What corpora are called in their manifests: ablations that share a folder share its name, and so the corpora."""
    shared = config.base.get("output")
    if not isinstance(shared, str):
        return config.name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", shared.rstrip("/").rpartition("/")[2])[:64] or config.name


def _placed(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, Any]]:
    """Dotted path → where in the file it is overridden, and the value. Raises ConfigError where two places meet."""
    places: dict[str, tuple[str, Any]] = {}
    for where, overrides in parts.items():
        for path, value in overrides.items():
            if not all(path.split(".")) or path in ("train", "stages"):  # whole, they would leave nothing of the base
                raise ConfigError(
                    f"{where}.{path}", "is no dotted path like stages.pack.resolution or train.loop.steps"
                )
            if any(_within(path, given) for given in _GIVEN):
                raise ConfigError(f"{where}.{path}", "is decided by the ablation")
            for other, (there, _) in places.items():
                if _within(path, other) or _within(other, path):
                    raise ConfigError(f"{where}.{path}", f"is overridden by {there}.{other} too, in the same arm")
            places[path] = (where, value)
    return places


def _refuse(settings: Mapping[str, Any], key: str, where: str) -> None:
    if key in settings:
        raise ConfigError(f"{where}.{key}", "is decided by the ablation")


def _within(path: str, whole: str) -> bool:
    return path == whole or path.startswith(f"{whole}.")


def _blamed(path: str, places: Mapping[str, tuple[str, Any]]) -> str:
    """Where in the file the setting at `path` comes from: an override, or the base."""
    for override, (where, _) in places.items():
        if path and (_within(path, override) or _within(override, path)):
            return f"{where}.{path}"
    return path if _within(path, "train") else ".".join(["base", *([path] if path else [])])
