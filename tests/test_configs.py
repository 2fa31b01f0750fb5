"""Every config in configs/ can be planned as it stands, without a network; only its list has to be there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.load import load_config
from curation.scenes.studio_shards import write_studio
from pipelines.curate import make_stages, plan
from tests.journey import ROOT

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("list") / "list.parquet"
    rows = {"URL": ["http://example.com/1.jpg"], "TEXT": ["a dog"], "pwatermark": [0.1], "punsafe": [0.1]}
    pq.write_table(pa.table(rows | {"AESTHETIC_SCORE": [5.5]}), path)
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_it_can_be_planned(name: str, listed: Path, tmp_path: Path) -> None:
    if name == "studio.yaml":  # whose list is tars of pictures
        (listed,) = write_studio(tmp_path / "studio", 2, processes=1)
    config = load_config(ROOT / "configs" / name, [f"source.path={listed}", f"output={tmp_path}"])
    planned = plan(config)
    assert [stage.stage for stage in planned] == [stage.name for stage in make_stages(config)]
    assert {stage.state for stage in planned} == {"to run"}
    # Rules and the primary caption are checked once the source's columns are known.
    source = make_stages(config)[0]
    source.run()  # type: ignore[attr-defined]
    assert plan(config)[0].state == "cached"


def test_there_is_one_for_each_backend() -> None:
    configs = [load_config(ROOT / "configs" / name) for name in CONFIGS]
    assert "openai" in {config.stages.caption.backend for config in configs if config.stages.caption}
