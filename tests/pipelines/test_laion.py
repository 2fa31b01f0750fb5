"""The main job on a real list: 1,000 LAION rows, against a stand-in for their 663 hosts that serves real photos."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from curation.fragments import read_manifest
from curation.fsck import fsck
from curation.run_log import read_run
from curation.storage import Folder
from pipelines.curate import run
from pipelines.engines import Engine
from tests.journey import config, outcomes
from tests.laion import laion_standin
from tests.on_ray import on_ray
from tests.shared import shared


def test_thousand_real_rows(tmp_path: Path, ray_engine: Engine) -> None:
    shared("photos")
    with laion_standin(shared("urls") / "laion_1000.parquet") as web:
        listed = web.write_list(tmp_path / "list.parquet")
        stages = {"select": {"dedup": {"exact": "bytes"}}, "pack": {"resolution": 256, "shard_samples": 50}}
        run(config(listed, tmp_path / "out", **stages), **on_ray(ray_engine))
        found = outcomes(tmp_path / "out", "source") | outcomes(tmp_path / "out", "fetch")
        wrong = []
        for row in web.rows:
            outcome, reason = found[web.url(row)]
            if (reason or outcome) not in row.expected(min_side=1024, max_aspect=2.0):
                wrong.append((web.url(row), reason or outcome))
        assert not wrong
    assert fsck(Folder(tmp_path / "out"), deep=True) == []
    stages_run = read_run(Folder(tmp_path / "out"))["stages"]
    manifests = [read_manifest(Folder(tmp_path / "out").child(s["folder"])) for s in stages_run]
    assert manifests[0] is not None
    assert manifests[0].counts.rows == 1000
    ends: Counter[str] = Counter()
    for manifest in manifests:
        assert manifest is not None
        ends.update(manifest.counts.reasons)
    last = manifests[-1]
    assert last is not None
    assert sum(ends.values()) + last.counts.kept == 1000
    assert last.counts.kept > 100
