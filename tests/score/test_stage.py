"""The score stage with operators named by import path: columns, single failed rows, damage, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.errors import ConfigError
from curation.fragments import read_manifest
from curation.stage import kept_rows
from curation.storage import Folder
from pipelines.curate import make_stages, plan, run
from tests.journey import config, outcomes, stage_folder
from tests.small_origin import small_origin

OPS = "tests.score.operators"
ROWS = 60
STAGES: dict[str, dict[str, Any]] = {
    "fetch": {"min_side": 64},
    "select": {"dedup": {"exact": "none"}},
    "pack": {"resolution": 64, "buckets": "none"},
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("origin") / "list.parquet"
    with small_origin(ROWS, path):
        yield path


def scored(listed: Path, output: Path, *names: str, where: str | None = None) -> Folder:
    score = {"ops": [f"{OPS}:{name}" for name in names], "run": {"batch": 7, "workers": 2}}
    stages = {**STAGES, "score": score, "select": {"where": where, **STAGES["select"]}}
    run(config(listed, output, **stages), engine="local")
    return stage_folder(output, "score")


def test_operators_add_columns_and_rules_use_them(listed: Path, tmp_path: Path) -> None:
    folder = scored(listed, tmp_path, "Brightness", "Twice", where="twice > 0")
    manifest = read_manifest(folder)
    assert manifest is not None
    # Of 60 rows every tenth is missing; of the others, those that end in 3 are failed by the operator.
    assert (manifest.counts.rows, manifest.counts.kept, manifest.counts.failed) == (54, 48, 6)
    assert manifest.counts.reasons == {"operator_fault": 6}
    rows = kept_rows(folder, [f.name for f in manifest.fragments]).to_pylist()
    assert all(row["twice"] == 2 * row["brightness"] > 0 for row in rows)
    assert "image" not in rows[0]
    assert {r for url, (_, r) in outcomes(tmp_path, "score").items() if url.endswith("3.jpg")} == {"operator_fault"}


def test_damaged_pixels_fail_their_row_alone(listed: Path, tmp_path: Path) -> None:
    run(config(listed, tmp_path, **STAGES), engine="local")
    bank = stage_folder(tmp_path, "fetch")
    row = kept_rows(bank, [n for n in bank.sizes() if n.endswith(".parquet")]).slice(0, 1).to_pylist()[0]
    tar = Path(bank.url) / row["tar"]
    data = bytearray(tar.read_bytes())
    data[row["offset"] + 10] ^= 1
    tar.write_bytes(data)
    scored(listed, tmp_path, "Brightness")
    found = outcomes(tmp_path, "score")
    assert found[row["url"]] == ("failed", "bank_damaged")
    assert sum(outcome == "kept" for outcome, _ in found.values()) in (47, 48)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no colon", "is not of the form package.module:Class"),
        ("no_such_module:Class", "cannot import no_such_module"),
        (f"{OPS}:Missing", "is neither a curation.op.BatchOperator nor an ImageOperator"),
        ("curation.op:Cost", "is neither a curation.op.BatchOperator nor an ImageOperator"),
    ],
)
def test_what_is_no_operator_is_refused(listed: Path, tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_stages(config(listed, tmp_path, **STAGES, score={"ops": [path]}))
    assert caught.value.path == "stages.score.ops.0"


@pytest.mark.parametrize(
    ("names", "message"),
    [(["Twice"], "reads columns that are not there: brightness"), (["Clashing"], "exist already: width")],
)
def test_operators_that_do_not_fit_are_refused_before_fetch(
    listed: Path, tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        scored(listed, tmp_path, *names)
    assert not list(tmp_path.glob("fetch-*"))


@pytest.mark.parametrize(("name", "error"), [("Buggy", ZeroDivisionError), ("Rejecting", AssertionError)])
def test_bugs_of_operators_stop_the_run(listed: Path, tmp_path: Path, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        scored(listed, tmp_path, name)


def test_version_of_an_operator_is_part_of_the_identity(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.score.operators import Brightness

    settings = config(listed, tmp_path, **STAGES, score={"ops": [f"{OPS}:Brightness"]})
    before = [p.folder for p in plan(settings)]
    monkeypatch.setattr(Brightness, "version", "2")
    after = [p.folder for p in plan(settings)]
    assert before[:2] == after[:2]
    assert not set(before[2:]) & set(after[2:])
