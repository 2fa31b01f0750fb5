"""Whether a run may go on from a checkpoint: what decides its course must be the same; the rest may change."""

from __future__ import annotations

from typing import Any

from curation.config.train import TrainConfig
from curation.errors import ConfigError

_FREE: Any = {
    "name": True,
    "output": True,
    "grids": True,
    "data": {"corpora", "workers", "run", "damage", "damage_budget"},
    "loop": {"steps", "log_every", "checkpoint_every", "keep", "compile", "gradient_checkpointing"},
}
"""Settings that may differ; the corpora are compared by the stream's state, by what they hold."""
_SPEED: Any = {
    "name": True,
    "data": {"workers", "run"},
    "loop": {"log_every", "checkpoint_every", "keep", "compile", "gradient_checkpointing"},
}
"""Settings that change nothing of what is learnt or drawn."""


def of_same_settings(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether what one training left is what the other would leave: they differ in speed and logs at most."""
    return one.model_dump(exclude=_SPEED) == other.model_dump(exclude=_SPEED)


def identity(config: TrainConfig, signature: Any) -> dict[str, Any]:
    """What must be the same, as plain JSON. With a schedule that ends, the number of steps is part of it."""
    found: dict[str, Any] = config.model_dump(mode="json", exclude=_FREE)
    if config.optimizer.schedule != "constant":
        found["loop"]["steps"] = config.loop.steps
    return {**found, "models": signature}


def check_identity(here: dict[str, Any], there: dict[str, Any], output: str) -> None:
    """Raises ConfigError that names what differs between this run and the checkpoint that it would go on from."""
    differs = [
        f"{path}: {_shown(there_value)} there, {_shown(here_value)} here"
        for path, there_value, here_value in _differences(there, here)
    ]
    if differs:
        raise ConfigError(
            "output",
            f"{output} holds checkpoints of another training; {'; '.join(differs[:5])}. "
            "Choose another output, or delete its folder `checkpoints`",
        )


def _differences(a: Any, b: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            found
            for key in sorted({*a, *b})
            for found in _differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if a == b else [(path, a, b)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
