"""The judge of the embedded world: reads a scene from pixels by comparing them with renderings; nothing is learned.

`read_scene` gives a `Reading`; `score_scene` compares it with the scene that a prompt asked for. Called by evaluations
of text-to-image models, by the ablations, by tests, and by `curation.scenes.judge_report`, which measures the judge.
"""

from curation.scenes.judge.read import read_scene
from curation.scenes.judge.reading import Cell, Finding, Reading
from curation.scenes.judge.score import ASKED, Mentioned, Score, score_scene

__all__ = ["ASKED", "Cell", "Finding", "Mentioned", "Reading", "Score", "read_scene", "score_scene"]
