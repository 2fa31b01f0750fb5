"""Semantic duplicates as a rule of the select stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from curation.config import SelectSettings
from curation.errors import ConfigError
from curation.row import SCORE_US
from curation.select import semantic
from curation.select.rules import check_rules
from tests.select.given import SCHEMA, details, ledger, reasons, rows, select, sha, uid
from tests.select.test_semantic import by_definition, crowded

KIND = pa.list_(pa.float16(), 2)


def embedded(degrees: list[float | None], **columns: list[Any]) -> pa.Table:
    """Rows whose embeddings point that way; None: no embedding."""
    angles = [None if x is None else np.radians(x) for x in degrees]
    vectors = [None if x is None else [np.float16(np.cos(x)), np.float16(np.sin(x))] for x in angles]
    table = rows(**{"width": [1000] * len(degrees), **columns})
    return table.append_column("clip_embedding", pa.array(vectors, KIND))


def within(degrees: float) -> dict[str, float]:
    return {"semantic": float(np.cos(np.radians(degrees)))}


def test_the_best_of_each_group_stays_and_names_who_lost_to_it(tmp_path: Path) -> None:
    table = embedded([0, 3, 90, 92, 94, 180], aesthetic=[5.0, 6.0, 6.0, 7.0, 5.0, 1.0])
    stage = select(tmp_path, table, dedup=within(5))
    assert reasons(stage) == {
        0: "semantic_duplicate",
        1: None,
        2: "semantic_duplicate",
        3: None,
        4: "semantic_duplicate",
        5: None,
    }
    assert details(stage) == {0: uid(1), 1: None, 2: uid(3), 3: None, 4: uid(3), 5: None}
    assert set(reasons(select(tmp_path / "off", table)).values()) == {None}
    manifest = stage.manifest()
    assert manifest is not None
    assert manifest.counts.reasons == {"semantic_duplicate": 3}


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ({"dedup": {**within(5), "prefer": "sharpness"}}, 3),
        ({"dedup": {**within(5), "prefer": "-aesthetic"}, "top": 9, "by": "sharpness"}, 0),
        ({"dedup": within(5), "top": 9, "by": "-width"}, 4),
        ({"dedup": within(5)}, 1),
        ({"dedup": {**within(5), "prefer": "width * height"}}, 2),
    ],
)
def test_who_is_best(tmp_path: Path, settings: dict[str, Any], stays: int) -> None:
    table = embedded(
        [0, 1, 2, 3, 4],
        aesthetic=[1.0, 9.0, 5.0, 5.0, 5.0],
        width=[50, 60, 90, 70, 10],
        sharpness=[1.0, 2.0, float("nan"), 8.0, None],
    )
    assert {i for i, reason in reasons(select(tmp_path, table, **settings)).items() if reason is None} == {stays}


def test_without_a_score_the_largest_stays_then_the_lowest_uid(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"width": [10, 30, 20, 10, 10], "height": [10] * 5, "length": [9, 1, 5, 7, 7]}
    table = embedded([0, 1, 2, 90, 91], **columns)
    assert details(select(tmp_path / "ties", table, dedup=within(5))) == {
        0: uid(1),
        1: None,
        2: uid(1),
        3: None,
        4: uid(3),
    }
    bare = table.drop_columns(["aesthetic"])
    assert details(select(tmp_path / "bare", bare, dedup=within(5)))[0] == uid(1)
    words = bare.append_column("aesthetic", pa.array(["z", "a", "a", "a", "z"]))
    assert details(select(tmp_path / "words", words, dedup=within(5)))[0] == uid(1)


def test_rows_without_a_preference_come_last(tmp_path: Path) -> None:
    table = embedded([0, 1, 2], aesthetic=[None, float("nan"), -3.0], width=[99, 98, 1])
    assert details(select(tmp_path, table, dedup=within(5))) == {0: uid(2), 1: uid(2), 2: None}


def test_rows_without_an_embedding_take_no_part(tmp_path: Path) -> None:
    table = embedded([None, 1, 2, None], aesthetic=[9.0, 1.0, 2.0, 9.0])
    assert reasons(select(tmp_path, table, dedup=within(5))) == {0: None, 1: "semantic_duplicate", 2: None, 3: None}
    none = embedded([None, None])
    assert set(reasons(select(tmp_path / "none", none, dedup=within(5))).values()) == {None}


def test_a_row_that_another_rule_dropped_displaces_nobody(tmp_path: Path) -> None:
    same = sha("same")
    table = embedded(
        [0, 1, 90, 91, 180, 181, 270],
        aesthetic=[9.0, 8.0, 9.0, 8.0, 7.0, 6.0, 5.0],
        alt_text=["no", "yes", "yes", "yes", "yes", "yes", "yes"],
        source_sha256=[sha(0), sha(1), same, sha(3), sha(4), sha(5), same],
        width=[5, 5, 5, 5, 5, 5, 9],
    )
    stage = select(tmp_path, table, where="alt_text = 'yes'", dedup=within(5), top=2, by="aesthetic")
    assert reasons(stage) == {
        0: "where",  # so 1 stays
        1: None,
        2: "duplicate_bytes",  # of the larger 6, so 3 stays
        3: None,
        4: "below_top",
        5: "semantic_duplicate",  # before top: 4 is better
        6: "below_top",
    }
    assert details(stage)[5] == uid(4)


def test_threshold_1_drops_equal_embeddings_only(tmp_path: Path) -> None:
    stage = select(tmp_path, embedded([10, 10, 10.5]), dedup={"semantic": 1})
    assert reasons(stage) == {0: None, 1: "semantic_duplicate", 2: None}


def scored(n: int) -> tuple[pa.Table, NDArray[np.float16]]:
    """Rows as score leaves them, `n` embeddings with many near copies."""
    vectors = crowded(n, n // 3, 0.2)
    rng = np.random.default_rng(2)
    table = rows(uid=[uid(i) for i in rng.permutation(n)], aesthetic=rng.standard_normal(n).tolist())
    table = table.append_column("clip_embedding", pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16))
    return table.append_column(SCORE_US, pa.array([[{"op": "clip", "us": 7}]] * n, SCORE_US.type)), vectors


def test_a_table_as_score_leaves_it(tmp_path: Path) -> None:
    table, vectors = scored(900)
    stage = select(tmp_path, [table[i : i + 70] for i in range(0, 900, 70)], dedup={"semantic": 0.9})
    order = np.argsort(-table["aesthetic"].to_numpy(), kind="stable")
    names = [table["uid"][i].as_py() for i in order]
    winners = by_definition(vectors, order, 0.9)
    found = {name: row["detail"] for name, row in ledger(stage).items()}
    assert found == {name: None if w < 0 else names[w] for name, w in zip(names, winners, strict=True)}
    assert 100 < sum(w >= 0 for w in winners) < 800


def test_what_only_score_needs_is_not_carried_on(tmp_path: Path) -> None:
    table, _ = scored(300)
    stage = select(tmp_path, table, where="score_us[1].us = 7", dedup={"semantic": 0.9})
    assert set(table.column_names) - set(stage.schema.names) == {"clip_embedding", "score_us"}
    manifest = stage.manifest()
    assert manifest is not None
    assert manifest.counts.kept > 0
    assert all(stage.folder.read_schema(f.name).names == stage.schema.names for f in manifest.fragments)
    without = select(tmp_path / "without", table)  # without the rule too
    assert without.schema == stage.schema


def test_outcomes_do_not_depend_on_the_order_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "ALL_PAIRS", 100)
    table, _ = scored(900)
    shuffled = table.take(np.random.default_rng(1).permutation(900))
    one = select(tmp_path / "a", table, dedup={"semantic": 0.9})
    two = select(tmp_path / "b", [shuffled[:100], shuffled[100:]], dedup={"semantic": 0.9})
    assert ledger(one) == ledger(two)


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (None, "needs column 'clip_embedding', which no stage before writes: put clip into stages.score.ops"),
        (pa.list_(pa.float16()), "holds no embeddings of one length"),
        (pa.list_(pa.int8(), 4), "holds no embeddings of one length"),
    ],
)
def test_no_embeddings(tmp_path: Path, column: pa.DataType | None, problem: str) -> None:
    table = rows(width=[1, 2])
    if column is not None:
        table = table.append_column("clip_embedding", pa.array([[1, 2, 3, 4]] * 2).cast(column))
    settings = {"dedup": {"semantic": 0.9}}
    with pytest.raises(ConfigError, match=problem) as before:
        check_rules(SelectSettings.model_validate(settings), table.schema)
    assert before.value.path == "stages.select.dedup.semantic"
    with pytest.raises(ConfigError, match=problem) as at_work:  # Parquet has another word for a list's items
        select(tmp_path, table, **settings)
    assert at_work.value.path == before.value.path
    assert not (tmp_path / "out").exists()


def test_faiss_is_asked_for_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    schema = SCHEMA.append(pa.field("clip_embedding", KIND))
    with pytest.raises(ConfigError, match="needs faiss") as caught:
        check_rules(SelectSettings.model_validate({"dedup": {"semantic": 0.9}}), schema)
    assert caught.value.path == "stages.select.dedup.semantic"
    check_rules(SelectSettings(), schema)


@pytest.mark.parametrize(
    ("prefer", "problem"),
    [
        ("alt_text::INT", "fails on the data"),
        ("aesthetics", "unknown column 'aesthetics'; did you mean 'aesthetic'"),
        ("null", "is always null"),
        ("max(width)", "aggregate"),
    ],
)
def test_wrong_preferences(tmp_path: Path, prefer: str, problem: str) -> None:
    table = embedded([0, 1], alt_text=["1", "one"])
    with pytest.raises(ConfigError, match=problem) as caught:
        select(tmp_path, table, where="width > 0", dedup={**within(5), "prefer": prefer}, top=1, by="width")
    assert caught.value.path == "stages.select.dedup.prefer"
    assert "\n" not in str(caught.value)


def test_prefer_is_asked_only_of_rows_that_where_lets_through(tmp_path: Path) -> None:
    table = embedded([0, 1, 2], alt_text=["none", "10", "20"])
    stage = select(tmp_path, table, where="alt_text <> 'none'", dedup={**within(5), "prefer": "alt_text::INT"})
    assert reasons(stage) == {0: "where", 1: "semantic_duplicate", 2: None}
