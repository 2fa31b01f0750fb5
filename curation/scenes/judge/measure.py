"""How often the judge is right: counts of (truth, reading) over renders whose truth is known; for `judge_report`."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from curation.scenes.judge.reading import Cell, Finding, Reading
from curation.scenes.scene import Scene

ATTRIBUTES = ("background", "pattern", "position", "shape", "size", "colour", "texture")
OPEN = "—"
"""Stands for an abstention in tables, and for the attributes of an object that was not seen."""


@dataclass
class Tally:
    """Counts over many pictures."""

    pairs: dict[str, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))
    """By attribute, how often a truth (first) was read as something (second). For positions: "taken" and "empty"."""
    pictures: int = 0
    all_right: int = 0

    def add(self, truth: Scene, reading: Reading) -> None:
        """One more picture."""
        self.pictures += 1
        self.all_right += reading.scene() == truth
        self.pairs["background"][truth.background, _word(reading.background)] += 1
        self.pairs["pattern"][truth.pattern, _word(reading.pattern)] += 1
        wanted = {thing.position: thing for thing in truth.objects}
        for cell in reading.cells:
            thing = wanted.get(cell.position)
            said = OPEN if cell.present is None else "taken" if cell.present else "empty"
            self.pairs["position"]["taken" if thing else "empty", said] += 1
            if thing is not None:
                for attribute in ("shape", "size", "colour", "texture"):
                    self.pairs[attribute][getattr(thing, attribute), _word(_finding(cell, attribute))] += 1

    def accuracy(self) -> dict[str, float]:
        """By attribute, the share that is right (an abstention is not), and "all right" of whole pictures."""
        shares = {}
        for attribute in ATTRIBUTES:
            counts = self.pairs[attribute]
            shares[attribute] = sum(n for (truth, said), n in counts.items() if truth == said) / counts.total()
        return shares | {"all right": self.all_right / self.pictures}

    def abstentions(self) -> dict[str, float]:
        """By attribute, the share left open."""
        return {
            a: sum(n for (_, said), n in self.pairs[a].items() if said == OPEN) / self.pairs[a].total()
            for a in ATTRIBUTES
        }

    def confusion(self, attribute: str, words: tuple[str, ...]) -> list[list[int]]:
        """Counts [truth, reading] in the order of `words`; the last column counts what was left open."""
        return [[self.pairs[attribute][truth, said] for said in (*words, OPEN)] for truth in words]


def _finding(cell: Cell, attribute: str) -> Finding:
    found: Finding = getattr(cell, attribute)
    return found


def _word(finding: Finding) -> str:
    return finding.word or OPEN
