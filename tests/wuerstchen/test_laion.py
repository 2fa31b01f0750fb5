"""The filters of `configs/wuerstchen_laion.yaml`, on rows at their edges."""

from __future__ import annotations

import duckdb
import pytest

from curation.load import load_config
from tests.journey import ROOT

GOOD = {"AESTHETIC_SCORE": 5.0, "pwatermark": 0.49, "punsafe": 0.98}


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        (GOOD, True),
        (GOOD | {"AESTHETIC_SCORE": 4.99}, False),
        (GOOD | {"pwatermark": 0.5}, False),
        (GOOD | {"punsafe": 0.99}, False),
        *((GOOD | {name: None}, False) for name in GOOD),
    ],
)
def test_the_list(row: dict[str, float | None], passes: bool) -> None:
    where = load_config(ROOT / "configs" / "wuerstchen_laion.yaml").sources[0].where
    columns = ", ".join(f"?::DOUBLE AS {name}" for name in row)
    found = duckdb.execute(f"SELECT 1 FROM (SELECT {columns}) WHERE {where}", list(row.values())).fetchall()
    assert bool(found) is passes


@pytest.mark.parametrize(("width", "height", "passes"), [(4096, 512, True), (512, 4097, False)])
def test_the_pictures(width: int, height: int, passes: bool) -> None:
    stages = load_config(ROOT / "configs" / "wuerstchen_laion.yaml").stages
    assert stages.fetch.min_side == 512
    where = stages.select.where
    assert duckdb.execute(f"SELECT {where} FROM (SELECT {width} AS width, {height} AS height)").fetchone() == (passes,)
