"""YAML file and `--set` overrides → settings, or a `ConfigError`: the setting, what was given, what is allowed.

The commands load by `load_config` (curations) and `load_train_config` (trainings); ablations have their own in
`curation.ablate.arms`, over `load`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from curation.config import Config
from curation.config.ablate import AblateConfig
from curation.config.train import TrainConfig
from curation.errors import ConfigError
from curation.text import one_line

M = TypeVar("M", bound=BaseModel)


_KINDS: dict[type[BaseModel], tuple[tuple[str, ...], str]] = {
    TrainConfig: (("recipe",), "a training, for train_hook.py or `curate train`"),
    AblateConfig: (("arms", "grid"), "an ablation, for `curate plan` or `curate ablate`"),
    Config: (("source", "stages"), "a curation, for `curate plan` or `curate run`"),
}
"""Keys that only one kind of file has at its top, and what takes such a file."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Settings of a curation, as `load`."""
    return load(path, overrides, model=Config)


def load_train_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Settings of a training, as `load`."""
    return load(path, overrides, model=TrainConfig)


def load(
    path: str | Path, overrides: Iterable[str] = (), *, model: type[M], dotted: Mapping[str, int] | None = None
) -> M:
    """Read `path` and apply `overrides` ("stages.select.top=1000", values in YAML). Raises ConfigError.

    `dotted`: settings that hold things by names, so many levels of them, below which the rest of an override's path is
    one key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("", f"config file not found: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("", f"cannot read config file {path}: {error}") from None
    try:
        data = yaml.load(text, _Once)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError("", f"{path} is not YAML: {one_line(error)}") from None
    if not isinstance(data, dict):
        raise ConfigError("", f"{path} must hold settings as `key: value`, found {type(data).__name__}")
    for kind, (keys, command) in _KINDS.items():
        if model is not kind and any(key in data for key in keys):
            raise ConfigError("", f"{path} holds the settings of {command}")
    for override in overrides:
        _apply(data, override, dotted or {})
    return make(data, model=model)


class _Once(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML's own rule is to forget one without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    told = f"{key.value!r} stands twice, again in line {key.start_mark.line + 1}"
                    raise yaml.composer.ComposerError(None, None, told)
                seen.add(key.value)
        return node


def make_config(data: Mapping[str, Any]) -> Config:
    """Settings of a curation, as `make`."""
    return make(data, model=Config)


def make(data: Mapping[str, Any], *, model: type[M], under: str = "") -> M:
    """Validate a plain dict of settings. Raises ConfigError with the dotted path of the first wrong setting.

    `under` is put before that path: where in a larger file the dict stands.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, model, under) from None


def _apply(data: dict[str, Any], override: str, dotted: Mapping[str, int]) -> None:
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not all(path.split(".")):
        raise ConfigError("--set", f"{override!r} is not of the form dotted.path=value")
    try:
        value = text if text.startswith("*") else yaml.safe_load(text)  # a glob, where YAML means something else
    except yaml.YAMLError:
        raise ConfigError(path, f"the value {text!r} is not YAML") from None
    assign(data, path, value, dotted)


def assign(data: dict[str, Any], path: str, value: Any, dotted: Mapping[str, int] | None = None) -> None:
    """Put `value` at the dotted `path` into plain settings, in place. Raises ConfigError where the path leads nowhere.

    Mappings on the way are made where they lack. `dotted` as in `load`.
    """
    keys = path.split(".")
    if (levels := (dotted or {}).get(keys[0])) is not None:
        keys = _named_keys(data, path, levels)
    node: Any = data
    for depth, key in enumerate(keys):
        where = ".".join(keys[: depth + 1])
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError(where, f"is a list of {len(node)}; use an index from 0 to {len(node) - 1}")
            if depth == len(keys) - 1:
                node[int(key)] = value
            else:
                node = node[int(key)]
        elif isinstance(node, dict):
            if depth == len(keys) - 1:
                node[key] = value
            else:
                if node.get(key) is None:
                    node[key] = {}
                node = node[key]
        else:
            raise ConfigError(".".join(keys[:depth]), f"is the value {node!r} and has no setting {key!r}")


_PLAIN = {"tuple_type": "must be a list, as [a, b]", "model_type": "must hold settings as `key: value`"}
"""pydantic's words where they speak of Python."""


def _named_keys(data: Mapping[str, Any], path: str, levels: int) -> list[str]:
    """The path's first key, `levels` names that are there (they may have dots), and the rest as one key."""
    first, _, rest = path.partition(".")
    keys, node = [first], data.get(first) or {}
    for _ in range(levels):
        names = list(node) if isinstance(node, dict) else []
        found = [name for name in names if rest == name or rest.startswith(f"{name}.")]
        if not found and "." in rest:
            raise ConfigError(".".join(keys), f"has none of the name with which {rest!r} begins: {', '.join(names)}")
        name = max(found, key=len) if found else rest
        keys, rest = [*keys, name], rest[len(name) + 1 :]
        if not rest:
            return keys
        node = node[name]
    return [*keys, rest]


def _explain(error: ValidationError, model: type[BaseModel], under: str) -> ConfigError:
    """The most telling of pydantic's errors: unknown keys first, then the deepest path (of a union's branches)."""
    errors = error.errors(include_url=False)
    errors.sort(key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
    first = errors[0]
    loc, _ = _place(model, first["loc"])
    path = ".".join([*([under] if under else []), *loc])
    given = first.get("input")
    if first["type"] == "extra_forbidden":
        _, beside = _place(model, first["loc"][:-1])
        valid = list(dict.fromkeys(name for m in beside for name in m.model_fields))
        near = difflib.get_close_matches(loc[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed here: {', '.join(valid)}"
        return ConfigError(path, f"unknown setting; {hint}")
    if first["type"] == "missing":
        return ConfigError(path, "is required")
    message = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
    return ConfigError(path, f"{message} (given: {given!r})" if not isinstance(given, dict) else message)


def _place(model: type[BaseModel], loc: Iterable[int | str]) -> tuple[list[str], list[type[BaseModel]]]:
    """pydantic's path without the parts that say which branch of a union it tried, and the models it leads to."""
    path: list[str] = []
    models = [model]
    for part in loc:
        name = str(part)
        branch = [m for m in models if m.__name__ == name or (len(models) > 1 and _kind(m) == name)]
        if branch or "[" in name:
            models = branch or models
            continue
        path.append(name)
        fields = [m.model_fields[name] for m in models if name in m.model_fields]
        if fields:  # else an index, a key of a dict, or an unknown setting
            models = [found for field in fields for found in _models_in(field.annotation)]
    return path, models


def _kind(model: type[BaseModel]) -> str | None:
    """The word in `kind` by which a model is told from others of its union."""
    field = model.model_fields.get("kind")
    words = get_args(field.annotation) if field else ()
    return words[0] if len(words) == 1 and isinstance(words[0], str) else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in get_args(annotation) for model in _models_in(arg)]
