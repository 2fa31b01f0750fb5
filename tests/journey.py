"""The whole journey in tests: a config over a list of URLs, `curate` as a process, and what a run left behind."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from curation.config import Config
from curation.fragments import read_manifest
from curation.load import make_config
from curation.run_log import read_run
from curation.scenes.gallery import Gallery
from curation.storage import Folder
from tests.forks import forked

ROOT = Path(__file__).resolve().parents[1]


def settings(listed: Path | str, output: Path | str, **stages: dict[str, Any]) -> dict[str, Any]:
    """A config for a list with columns URL and TEXT on this machine; `stages` are merged into small defaults."""
    defaults: dict[str, dict[str, Any]] = {
        "fetch": {
            "min_side": 1024,
            "max_aspect": 2.0,
            "timeout_s": 60,
            "connect_timeout_s": 2,
            "retries": 1,
            "allow_networks": ["127.0.0.0/8"],
        },
        "select": {"dedup": {"exact": "bytes", "phash": 4}},
        "pack": {"resolution": 256, "shard_samples": 8},
    }
    return {
        "name": "test",
        "output": str(output),
        "source": {"kind": "parquet", "path": str(listed), "columns": {"url": "URL", "alt_text": "TEXT"}},
        "stages": {name: {**defaults.get(name, {}), **stages.get(name, {})} for name in {**defaults, **stages}},
    }


def config(listed: Path | str, output: Path | str, **stages: dict[str, Any]) -> Config:
    return make_config(settings(listed, output, **stages))


def write_config(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(data))
    return path


def curate(*arguments: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """`curate …` as a process of its own."""
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def curate_done(*arguments: str | Path, cwd: Path = ROOT) -> tuple[int, str, str]:
    """`curate …` in a fork, which spares its imports: exit code, stdout, stderr."""
    return forked(_curate, ["curate", *map(str, arguments)], cwd=cwd)


def _curate(command: list[str]) -> None:
    from pipelines.cli import main

    sys.argv = command
    main()


def outcomes(output: Path | str, stage: str) -> dict[str, tuple[str, str | None]]:
    """URL → (outcome, reason) after `stage` of the last run. Of rows with the same URL the last counts."""
    folder = stage_folder(output, stage)
    manifest = read_manifest(folder)
    assert manifest is not None
    rows = [r for f in manifest.fragments for r in folder.read_table(f.name).to_pylist()]
    return {r["url"]: (r["outcome"], r["reason"]) for r in rows}


def kept_url(gallery: Gallery, output: Path | str) -> str:
    """A URL that went all the way and stands in the list once: where it stands twice, two rows have a journey."""
    listed = Counter(gallery.url(exhibit) for exhibit in gallery.exhibits)
    packed = outcomes(output, "pack").items()
    return next(url for url, (outcome, _) in packed if outcome == "kept" and listed[url] == 1)


def stage_folder(output: Path | str, stage: str) -> Folder:
    folder = Folder(output)
    return folder.child(next(s["folder"] for s in read_run(folder)["stages"] if s["name"] == stage))


def corpus_bytes(output: Path | str) -> dict[str, str]:
    """SHA-256 of each file of the corpus, by name; without ledger fragments, whose names are random."""
    folder = Path(stage_folder(output, "pack").url)
    files = [*folder.glob("shards/*"), *(folder / n for n in ("index.parquet", "wids.json", "croissant.json"))]
    assert len(files) > 3
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
