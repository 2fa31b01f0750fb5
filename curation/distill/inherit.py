"""A student's first weights: the teacher's at the same place. Every student tensor names its teacher tensor.

Down blocks keep their first layers. In up blocks the last layer goes to the last one, for it reads the skip connection
of the level above (Kim et al. 2023, BK-SDM, do the same): a copy by name would not even fit there. Which of a deep
transformer's layers a shallower one takes is a setting; KOALA found the bottom ones best (§3.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from curation.config.koala import Keep
from curation.errors import ConfigError

_UP = re.compile(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)")
_TRANSFORMER = re.compile(r"(.*)\.transformer_blocks\.(\d+)\.(.*)")


@dataclass(frozen=True)
class Inheritance:
    """Where a student's tensors come from."""

    sources: Mapping[str, str]
    """Teacher tensor by student tensor."""
    unused: tuple[str, ...]
    """Teacher tensors that no student tensor takes."""


def inherit_map(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], keep: Keep = "bottom") -> Inheritance:
    """Teacher tensor for each tensor of the student's state dict.

    Raises ConfigError where a tensor has no counterpart or another shape: the student was not cut from this teacher.
    """
    mine, theirs = _depths(student), _depths(teacher)
    sources = {}
    for name, tensor in student.items():
        source = _source(name, mine, theirs, keep)
        if source not in teacher:
            raise ConfigError("recipe.teacher", f"does not fit the student: it has no {source} for {name}")
        if teacher[source].shape != tensor.shape:
            raise ConfigError(
                "recipe.teacher",
                f"does not fit the student: {source} has shape {list(teacher[source].shape)}, "
                f"{name} {list(tensor.shape)}",
            )
        sources[name] = source
    return Inheritance(sources, tuple(sorted(set(teacher) - set(sources.values()))))


def inherit(student: nn.Module, teacher: nn.Module, keep: Keep = "bottom") -> Inheritance:
    """Fill `student` with `teacher`'s weights; returns what came from where. Raises ConfigError as `inherit_map`."""
    weights = teacher.state_dict()
    found = inherit_map(student.state_dict(), weights, keep)
    student.load_state_dict({name: weights[source] for name, source in found.sources.items()})
    return found


def kept_layers(mine: int, theirs: int, keep: Keep) -> list[int]:
    """Which of `theirs` transformer layers a transformer of `mine` takes, in order."""
    if keep == "bottom":
        return list(range(mine))
    if keep == "top":
        return list(range(theirs - mine, theirs))
    return [round(i * (theirs - 1) / (mine - 1)) if mine > 1 else 0 for i in range(mine)]


def _source(name: str, mine: dict[str, int], theirs: dict[str, int], keep: Keep) -> str:
    if up := _UP.fullmatch(name):
        block, kind, layer, rest = up.groups()
        place = f"up_blocks.{block}.{kind}"
        number = theirs[place] - 1 if int(layer) == mine[place] - 1 else int(layer)
        name = f"{place}.{number}.{rest}"
    if deep := _TRANSFORMER.fullmatch(name):
        # the depth of a transformer is the same for all of its block, so the place in the teacher tells it for both
        place, layer, rest = deep.groups()
        own = mine[f"{_any_layer(place)}.transformer_blocks"]
        number = kept_layers(own, theirs[f"{_any_layer(place)}.transformer_blocks"], keep)[int(layer)]
        name = f"{place}.transformer_blocks.{number}.{rest}"
    return name


def _depths(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Number of layers by place: `up_blocks.0.resnets`, `down_blocks.1.attentions.transformer_blocks`, …"""
    found: dict[str, int] = {}
    for name in state:
        places = []
        if up := _UP.fullmatch(name):
            places.append((f"up_blocks.{up[1]}.{up[2]}", int(up[3])))
        if deep := _TRANSFORMER.fullmatch(name):
            places.append((f"{_any_layer(deep[1])}.transformer_blocks", int(deep[2])))
        for place, number in places:
            found[place] = max(found.get(place, 0), number + 1)
    return found


def _any_layer(place: str) -> str:
    """`down_blocks.1.attentions.0` → `down_blocks.1.attentions`: transformers of one block are equally deep."""
    return place.rpartition(".")[0]
