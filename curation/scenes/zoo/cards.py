"""Model cards: how a model of the zoo was made and what was measured of it, as `evaluation.json` and `README.md`.

Every training ends here, so a card never says more than the run that wrote it measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

EVALUATION = "evaluation.json"
"""Written last but for the card: where it stands, the training is finished."""

Quality = Mapping[str, float | Mapping[str, float]]
"""Measured figures by name; a mapping of them becomes a table of its own."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a model was made."""

    title: str
    about: str
    """What it takes and gives and what it was taught, a paragraph or more of Markdown."""
    command: str
    seed: int
    steps: int
    batch: int
    seconds: float
    """Of training, on the machine that did it."""
    parameters: int
    flops: int | None = None
    """Of the whole training, forward and back, where something is to be compared by them."""
    bars: Mapping[str, float] = field(default_factory=dict)
    """Least wanted of figures of the evaluation, by name."""


def write_card(folder: Path, made: Made, quality: Quality) -> None:
    """Write `evaluation.json` and `README.md` into `folder`, beside the weights. Raises KeyError for a bar on a figure
    that was not measured."""
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    facts = {**asdict(made), "bytes": size, "cores": os.cpu_count(), "quality": quality}
    _write(folder / "README.md", card(facts))
    _write(folder / EVALUATION, json.dumps(facts, indent=1) + "\n")


def card(facts: Mapping[str, Any]) -> str:
    """The Markdown of the facts that `evaluation.json` holds."""
    quality, bars = facts["quality"], facts["bars"]
    numbers = [(name, value) for name, value in quality.items() if not isinstance(value, Mapping)]
    lines = [
        "---",
        "license: apache-2.0",
        "tags: [embedded-world]",
        "---",
        f"# {facts['title']}",
        "",
        facts["about"].strip(),
        "",
        "## How it was made",
        "",
        f"    {facts['command']}",
        "",
        f"Seed {facts['seed']}, {facts['steps']:,} steps of {facts['batch']}, {_time(facts['seconds'])} on "
        f"{facts['cores']} cores; {facts['parameters']:,} parameters, {facts['bytes']:,} bytes"
        + (f"; {facts['flops'] / 1e12:,.0f} TFLOPs." if facts.get("flops") else "."),
        "",
        "## What it reaches",
        "",
        "Measured at the end of the training, on scenes that it has never seen.",
        "",
        "| measure | value | wanted |",
        "|---|---|---|",
        *(f"| {name} | {value:.4g} | {_bar(bars, name, value)} |" for name, value in numbers),
    ]
    for name, values in quality.items():
        if isinstance(values, Mapping):
            lines += ["", f"{name}:", "", "| | |", "|---|---|", *(f"| {k} | {v:.4g} |" for k, v in values.items())]
    missing = set(bars) - {name for name, _ in numbers}
    if missing:
        raise KeyError(f"no figure {', '.join(sorted(missing))} was measured")
    return "\n".join(lines) + "\n"


def _bar(bars: Mapping[str, float], name: str, value: float) -> str:
    if name not in bars:
        return ""
    return f"≥ {bars[name]:.4g}" + ("" if value >= bars[name] else ", missed")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
