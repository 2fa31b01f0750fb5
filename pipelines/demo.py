"""`make demo`: the main job on this machine alone, from a web of rendered pictures to shards and a report.

Starts the gallery (a loopback web server with small, broken, blurred, duplicate and good pictures), then runs `curate
run configs/demo.yaml` and some steps of a distillation on what comes out. Running it again reuses the port, so finished
stages are not run again.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from curation.load import load_config
from curation.run_log import read_run
from curation.scenes.gallery import Gallery
from curation.storage import Folder

CONFIG = Path("configs/demo.yaml")
TRAINING = Path("configs/training/koala_scenes.yaml")
STEPS = 100
PORT = 8931
"""Fixed, because URLs are part of every row's identity."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=600, help="pictures in the gallery")
    parser.add_argument("--port", type=int, default=PORT, help="port of the gallery")
    parser.add_argument("--fresh", action="store_true", help="forget earlier demo runs")
    args = parser.parse_args()
    config = load_config(CONFIG)
    output, listed = Path(config.output), Path(config.sources[0].path)
    if args.fresh:
        shutil.rmtree(output, ignore_errors=True)
    listed.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Gallery(args.count, seed=0, port=args.port) as gallery:
            gallery.write_list(listed)
            print(f"A gallery of {args.count} pictures is open on this machine; its list is {listed}.\n", flush=True)
            command = [sys.executable, "-m", "pipelines.cli", "run", str(CONFIG)]
            code = _done(command)
        if code == 0:
            print(f"\n{STEPS} steps of a small student's distillation from the world's teacher:", flush=True)
            code = _done(training(output))
    except KeyboardInterrupt:
        return 130
    if code == 0:
        print(_next_steps(output))
    return code


def _done(command: list[str]) -> int:
    """The exit code of a command, which is given the time to stop as it likes: the gallery stays open until then."""
    child = subprocess.Popen(command)
    # Ctrl-C reaches it from the terminal, SIGTERM only through here.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate = signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)


def training(output: Path) -> list[str]:
    """The command that trains a student on the corpus of the run in `output`."""
    command = [sys.executable, "train_hook.py", str(TRAINING), "--corpus", str(output)]
    return [*command, "--set", f"loop.steps={STEPS}", "--output", str(output / "student")]


def _next_steps(output: Path) -> str:
    corpus = read_run(Folder(output))["corpus"]
    return f"""
Where things are
  {output}/report.html              the report: open it in a browser
  {output}/{corpus}/shards/   WebDataset tars, with index.parquet and manifest.json beside them
  {output}/student/report.html      the training's report; 100 steps are a beginning

What to try next (in an activated .venv, or with .venv/bin/ before each command)
  curate plan {CONFIG}                                        everything is cached
  curate plan {CONFIG} --set stages.pack.quality=90   only the last stages would run
  curate explain {output} URL                                  a row's whole journey
  curate fsck {output} --deep                                  every row accounted for, every hash right
  python -m pipelines.demo --fresh --count 2000                          a larger gallery"""


if __name__ == "__main__":
    sys.exit(main())
