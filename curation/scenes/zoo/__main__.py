"""Trains the models of the embedded world that are not there yet: `python -m curation.scenes.zoo`, or `make zoo`.

    python -m curation.scenes.zoo [NAME …]       these alone: clip, aesthetic, classifiers, captioner, vae, teacher,
                                                 wuerstchen_parts

Each runs in a process of its own and goes on from its checkpoint in `runs/zoo` where it was stopped. To train a
finished model anew, delete its folder and its checkpoint.
"""

from __future__ import annotations

import subprocess
import sys

from curation.scenes.trained import MODELS
from curation.scenes.zoo.cards import EVALUATION

LAST = {
    "clip": [f"clip/{EVALUATION}"],
    "aesthetic": [f"aesthetic/{EVALUATION}"],
    "classifiers": [f"watermark/{EVALUATION}", f"safety/{EVALUATION}"],
    "captioner": [f"captioner/{EVALUATION}"],
    "vae": [f"teacher/vae/{EVALUATION}"],
    "teacher": [f"teacher/{EVALUATION}"],
    "wuerstchen_parts": [f"wuerstchen/{EVALUATION}"],
}
"""What each training writes last, in the order in which they run: `aesthetic` needs `clip`, `teacher` needs `vae`."""


def unfinished(names: list[str]) -> list[str]:
    """Those of `names` (all where there are none) that are not there yet, in order. Raises ValueError for a strange
    name."""
    strange = [name for name in names if name not in LAST]
    if strange:
        raise ValueError(f"no training {strange[0]!r}: there is {', '.join(LAST)}")
    return [
        name
        for name, files in LAST.items()
        if (not names or name in names) and not all((MODELS / file).exists() for file in files)
    ]


def main(names: list[str]) -> int:
    """The exit code: 0 where all is done, else that of the first training that failed."""
    try:
        wanted = unfinished(names)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for name in wanted:
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"curation.scenes.zoo.{name}"])
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
