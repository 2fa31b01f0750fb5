"""A card says what the run measured, beside what was wanted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from curation.scenes.zoo.cards import EVALUATION, Made, card, write_card

MADE = Made(
    title="Toy",
    about="A toy.",
    command="python -m toy --seed 3",
    seed=3,
    steps=1200,
    batch=8,
    seconds=600,
    parameters=54321,
    bars={"accuracy": 0.9, "correlation": 0.8},
)
QUALITY = {"accuracy": 0.95123, "correlation": 0.5, "By size": {"64": 0.25}}


def test_the_card_holds_command_cost_and_every_figure(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1234)
    write_card(tmp_path, MADE, QUALITY)
    text = (tmp_path / "README.md").read_text()
    for part in ("# Toy", "python -m toy --seed 3", "Seed 3, 1,200 steps of 8, 10 min", "54,321", "1,234 bytes"):
        assert part in text
    assert "| accuracy | 0.9512 | ≥ 0.9 |" in text
    assert "| correlation | 0.5 | ≥ 0.8, missed |" in text
    assert "| 64 | 0.25 |" in text


def test_the_card_can_be_made_again_from_the_evaluation(tmp_path: Path) -> None:
    write_card(tmp_path, MADE, QUALITY)
    facts = json.loads((tmp_path / EVALUATION).read_text())
    assert facts["quality"] == QUALITY
    assert card(facts) == (tmp_path / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", EVALUATION]


def test_a_bar_on_a_figure_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="recall"):
        write_card(tmp_path, replace(MADE, bars={"recall": 0.5}), QUALITY)
    assert not (tmp_path / EVALUATION).exists()
