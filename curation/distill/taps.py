"""Features of student and teacher at the same places, taken by forward hooks.

Where to listen is KOALA's ablation: outputs of self-attention (its choice), of cross-attention, of feed-forward layers,
of residual layers, or the last feature of all blocks or of the outer ones. A place of the student is paired with one of
the teacher whose weights it inherited or could have inherited (`inherit.py`), so pairs always have one shape.

Hooks sit on modules, not on names: wrapping a model in DDP or compiling it changes nothing. Under gradient
checkpointing a block runs twice; the second run, inside the backward pass, is not listened to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from curation.config.koala import Where
from curation.distill.inherit import Inheritance
from curation.errors import ConfigError

_PLACES: dict[str, re.Pattern[str]] = {
    "self_attention": re.compile(r".*\.transformer_blocks\.\d+\.attn1"),
    "cross_attention": re.compile(r".*\.transformer_blocks\.\d+\.attn2"),
    "feed_forward": re.compile(r".*\.transformer_blocks\.\d+\.ff"),
    "residual": re.compile(r".*\.resnets\.\d+"),
    "last": re.compile(r"(down_blocks|up_blocks)\.\d+|mid_block"),
}


def pair_places(student: nn.Module, inheritance: Inheritance, where: Sequence[Where]) -> dict[str, str]:
    """Teacher module by student module, both by name, for all places of the kinds `where`.

    Raises ConfigError where the student has none of a kind.
    """
    pairs: dict[str, str] = {}
    for kind in where:
        found = _found(student, kind)
        if not found:
            raise ConfigError("recipe.losses.places", f"the student has no {kind.replace('_', ' ')}")
        pairs |= {name: _teacher_place(name, inheritance) for name in found}
    return pairs


def _found(student: nn.Module, kind: Where) -> list[str]:
    if kind == "last_outer":
        blocks = _found(student, "last")
        return [blocks[0], max(name for name in blocks if name.startswith("up_"))]
    return [name for name, _ in student.named_modules() if _PLACES[kind].fullmatch(name)]


def _teacher_place(name: str, inheritance: Inheritance) -> str:
    """The teacher's module whose weights the student's module `name` inherited."""
    tensor = next(t for t in inheritance.sources if t.startswith(f"{name}."))
    tail = tensor.removeprefix(name)
    source = inheritance.sources[tensor]
    if source.endswith(tail):
        return source.removesuffix(tail)
    return name  # a whole block: its first tensor may stand in another layer, the block itself does not


class Taps:
    """Listens to some modules of one model."""

    def __init__(self, model: nn.Module, places: Mapping[str, str]) -> None:
        """`places`: what a feature is called, and the module that gives it. Raises ConfigError if one is missing."""
        modules = dict(model.named_modules())
        missing = sorted(name for name in places.values() if name not in modules)
        if missing:
            raise ConfigError("recipe.losses.places", f"the model has no {missing[0]}")
        self._features: dict[str, Tensor] = {}
        self._listening = False
        for place, name in places.items():
            modules[name].register_forward_hook(self._hook(place))

    def _hook(self, place: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._listening:
                self._features[place] = output[0] if isinstance(output, tuple) else output

        return keep

    @contextmanager
    def listening(self) -> Iterator[dict[str, Tensor]]:
        """Features by place of the forward pass in the block; the mapping is filled when the block ends."""
        self._features, self._listening = {}, True
        try:
            yield self._features
        finally:
            self._features, self._listening = {}, False  # or they would live on until the next pass
