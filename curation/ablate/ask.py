"""One model, asked what the students of an ablation in the embedded world are asked.

    python -m curation.ablate.ask runs/koala-scenes/model --steps 20 --guidance 3

`MODEL` is a folder of SDXL's kind: a student's `model/`, or a teacher.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from rich.console import Console
from rich.markup import escape

from curation.ablate.measure import make_metrics, prompts_of, scores_of
from curation.config.ablate import SceneEvaluation
from curation.config.koala import SamplingSettings, TeacherSettings
from curation.errors import ConfigError
from curation.evaluate.evaluate import evaluate
from curation.load import make
from curation.train.trained import teacher_sampler


def ask(model: str, sampling: SamplingSettings, evaluation: SceneEvaluation) -> dict[str, float]:
    """Mean of each metric, by the names that `verdict.primary` takes. Raises ConfigError where there is no model."""
    sampler = teacher_sampler(TeacherSettings(model=model, sampling=sampling))
    results = evaluate(sampler, prompts_of(evaluation), make_metrics(evaluation), seed=evaluation.seed)
    return {name: float(np.nanmean(scores)) for name, scores in scores_of(evaluation, results).items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m curation.ablate.ask", description="Ask a model held-out scenes.")
    parser.add_argument("model", metavar="MODEL", help="folder of a pipeline of SDXL's kind")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a picture")
    parser.add_argument("--guidance", type=float, default=3.0, help="1: without")
    parser.add_argument("--prompts", type=int, default=160, help="scenes, each asked in detail and in a few words")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    try:
        sampling = make({"steps": given.steps, "guidance": given.guidance}, model=SamplingSettings, under="--")
        evaluation = make({"kind": "scenes", "prompts": given.prompts}, model=SceneEvaluation, under="--")
        found = ask(given.model, sampling, evaluation)
    except ConfigError as error:
        console.print(f"[bold red]wrong arguments[/] {escape(str(error))}")
        return 2
    for name, value in found.items():
        console.print(f"{name:26}{value:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
