"""YAML file and `--set` overrides → `Config`, or a `ConfigError`: the setting, what was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from curation.config import Config
from curation.errors import ConfigError


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read `path` and apply `overrides` ("stages.select.top=1000", values in YAML). Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("", f"config file not found: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("", f"cannot read config file {path}: {error}") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError("", f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError("", f"{path} must hold settings as `key: value`, found {type(data).__name__}")
    for override in overrides:
        _apply(data, override)
    return make_config(data)


def make_config(data: Mapping[str, Any]) -> Config:
    """Validate a plain dict of settings. Raises ConfigError with the dotted path of the first wrong setting."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise _explain(error) from None


def _apply(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError("--set", f"{override!r} is not of the form stages.select.top=1000")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(path, f"the value {text!r} is not YAML") from None
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


def _explain(error: ValidationError) -> ConfigError:
    """The most telling of pydantic's errors: unknown keys first, then the deepest path (of a union's branches)."""
    errors = error.errors(include_url=False)
    errors.sort(key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
    first = errors[0]
    loc = [part for part in first["loc"] if not _is_branch(part)]
    path = ".".join(str(part) for part in loc)
    given = first.get("input")
    if first["type"] == "extra_forbidden":
        valid = _fields_at(Config, loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed here: {', '.join(valid)}"
        return ConfigError(path, f"unknown setting; {hint}")
    if first["type"] == "missing":
        return ConfigError(path, "is required")
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(path, f"{message} (given: {given!r})" if not isinstance(given, dict) else message)


def _is_branch(part: int | str) -> bool:
    """True for the parts that pydantic adds to a path to say which branch of a union it tried."""
    return isinstance(part, str) and (part.endswith("Settings") or "[" in part)


def _fields_at(model: type[BaseModel], loc: list[Any]) -> list[str]:
    for part in loc:
        if isinstance(part, int):
            continue
        found = _models_in(model.model_fields[part].annotation)
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in get_args(annotation) for model in _models_in(arg)]
