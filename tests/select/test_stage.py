"""What the stage reads and leaves: every row once, with its outcome, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from curation.config import SelectSettings
from curation.errors import ConfigError, StorageError
from curation.fragments import Counts
from curation.row import Reason, Verdict, with_outcomes
from curation.select import rules
from curation.select import stage as stage_module
from curation.select.decide import Decision
from curation.stage import kept_rows
from tests.select.given import SCHEMA, ledger, reasons, rows, select, sha, uid


def random_rows(n: int, seed: int) -> pa.Table:
    """Rows with many ties, copies, near copies and nulls."""
    rng = random.Random(seed)
    order = rng.sample(range(10 * n), n)
    centres = [rng.getrandbits(64) for _ in range(n // 4)]
    return rows(
        uid=[uid(i) for i in order],
        width=[rng.choice([100, 200, 300]) for _ in order],
        height=[rng.choice([100, 200, None]) for _ in order],
        length=[rng.choice([1000, 2000]) for _ in order],
        aesthetic=[rng.choice([None, 4.0, 5.0, 6.0, 7.0, rng.random() * 10]) for _ in order],
        source_sha256=[rng.choice([None, sha(rng.randrange(n))]) for _ in order],
        phash=[rng.choice([None, rng.choice(centres) ^ (1 << rng.randrange(64))]) for _ in order],
    )


def by_definition(table: pa.Table, least: float, bits: int, top: int) -> dict[str, tuple[str | None, str | None]]:
    """Reason and winner of every row, said as plainly as can be."""
    found: dict[str, tuple[str | None, str | None]] = {}
    alive: list[dict[str, Any]] = []

    def size(row: dict[str, Any]) -> tuple[int, int, str]:
        pixels = -1 if None in (row["width"], row["height"]) else row["width"] * row["height"]
        return -pixels, -row["length"], row["uid"]

    for row in table.to_pylist():
        if row["aesthetic"] is not None and row["aesthetic"] >= least:
            alive.append(row)
        else:
            found[row["uid"]] = ("where", None)
    alive.sort(key=size)
    first: dict[str, str] = {}
    stays: list[dict[str, Any]] = []
    for row in alive:
        if first.setdefault(row["source_sha256"] or row["uid"], row["uid"]) == row["uid"]:
            stays.append(row)
        else:
            found[row["uid"]] = ("duplicate_bytes", first[row["source_sha256"]])
    alive, stays = stays, []
    for row in alive:
        near = [
            other["uid"]
            for other in stays
            if None not in (row["phash"], other["phash"]) and (row["phash"] ^ other["phash"]).bit_count() <= bits
        ]
        if near:
            found[row["uid"]] = ("near_duplicate", near[0])
        else:
            stays.append(row)
    stays.sort(key=lambda row: (-row["aesthetic"], row["uid"]))
    found.update({row["uid"]: ("below_top", None) for row in stays[top:]})
    found.update({row["uid"]: (None, None) for row in stays[:top]})
    return found


SETTINGS: dict[str, Any] = {"where": "aesthetic >= 4.5", "dedup": {"phash": 3}, "top": 120, "by": "aesthetic"}


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "MIN_ROWS", 64)
    table = random_rows(1000, seed)
    stage = select(tmp_path, [table[i : i + 90] for i in range(0, 1000, 90)], **SETTINGS)
    expected = by_definition(table, 4.5, 3, 120)
    found = {
        name: (row["reason"], row["detail"] if "duplicate" in (row["reason"] or "") else None)
        for name, row in ledger(stage).items()
    }
    assert found == expected
    assert {"where", "duplicate_bytes", "near_duplicate", "below_top", None} == {reason for reason, _ in found.values()}


def test_counts_add_up(tmp_path: Path) -> None:
    stage = select(tmp_path, random_rows(900, 7), **SETTINGS)
    manifest = stage.manifest()
    assert manifest is not None
    assert len(manifest.fragments) > 1
    for fragment in manifest.fragments:
        assert fragment.counts == Counts.of(stage.folder.read_table(fragment.name))
    counts = manifest.counts
    assert counts.rows == counts.kept + counts.rejected == 900
    assert sum(counts.reasons.values()) == counts.rejected
    assert manifest.upstream == stage.upstream.folder.url.rsplit("/", 1)[-1] if stage.upstream else None


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    table = random_rows(900, 8)
    one, two = (select(tmp_path / name, [table[:500], table[500:]], **SETTINGS) for name in "ab")
    assert one.folder.sizes()
    for name in one.folder.sizes():
        assert one.folder.read_bytes(name) == two.folder.read_bytes(name), name


def test_outcomes_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    table = random_rows(900, 9)
    shuffled = table.take(np.random.default_rng(1).permutation(900))
    one = select(tmp_path / "a", table, **SETTINGS)
    two = select(tmp_path / "b", [shuffled[:100], shuffled[100:]], **SETTINGS)
    assert ledger(one) == ledger(two)


def test_kept_rows_carry_everything_on_and_dropped_ones_their_name(tmp_path: Path) -> None:
    nested = [{"a": [1.5], "b": "x"}, {"a": [], "b": None}, {"a": None, "b": "y"}]
    table = rows(width=[1, 2, 3])
    extra = {
        "nested": pa.array(
            nested, pa.struct([pa.field("a", pa.list_(pa.float16())), pa.field("b", pa.large_string())])
        ),
        "when": pa.array([1, 2, 3], pa.timestamp("ns", "UTC")),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "vector": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
        "price": pa.array([1, 2, 3], pa.decimal256(50, 2)),
    }
    for name, column in extra.items():
        table = table.append_column(pa.field(name, column.type, nullable=False), column)
    stage = select(tmp_path, table, where="width >= 2")
    manifest = stage.manifest()
    assert manifest is not None
    assert kept_rows(stage.folder, [f.name for f in manifest.fragments]).to_pylist() == [
        {name: value for name, value in row.items() if name not in ("outcome", "reason", "detail", "transient")}
        for row in table[1:].to_pylist()
    ]
    dropped = {name: value for name, value in ledger(stage)[uid(0)].items() if value is not None}
    assert dropped == {
        "uid": uid(0),
        "source": "list",
        "url": "http://example.com/0.jpg",
        "outcome": "rejected",
        "reason": "where",
        "detail": "width >= 2",
    }
    assert stage.folder.read_table(manifest.fragments[0].name).schema.names == stage.schema.names


def test_only_rows_that_the_stage_before_kept_are_read(tmp_path: Path) -> None:
    table = rows(width=[1, 2, 3, 4], source_sha256=[sha("same")] * 4)
    verdicts = [Verdict(Reason.TIMEOUT, "slow"), Verdict(), Verdict(Reason.TOO_SMALL, "1 x 1"), Verdict()]
    stage = select(tmp_path, [with_outcomes(table, verdicts).select(SCHEMA.names), rows(uid=[uid(9)])])
    assert reasons(stage) == {1: "duplicate_bytes", 3: None, 9: None}


def test_all_rejected(tmp_path: Path) -> None:
    stage = select(tmp_path, random_rows(700, 1), where="width > 5000")
    manifest = stage.manifest()
    assert manifest is not None
    assert manifest.counts == Counts(700, rejected=700, reasons={"where": 700})
    assert len(ledger(stage)) == 700


def test_nothing_came_in(tmp_path: Path) -> None:
    table = rows(width=[1])
    lost = with_outcomes(table, [Verdict(Reason.TIMEOUT)]).select(SCHEMA.names)
    stage = select(tmp_path, lost, dedup={"phash": 3}, top=3, by="width")
    manifest = stage.manifest()
    assert manifest is not None
    assert (manifest.counts, manifest.fragments) == (Counts(), ())


def test_fragments_hold_few_rows_so_that_later_stages_can_share_them_out(tmp_path: Path) -> None:
    table = random_rows(3000, 2)
    pieces = [table[:1500], *(table[i : i + 10] for i in range(1500, 3000, 10))]  # one large fragment, many small
    stage = select(tmp_path, pieces)
    manifest = stage.manifest()
    assert manifest is not None
    sizes = [f.counts.rows for f in manifest.fragments]
    assert [f.partition for f in manifest.fragments] == list(range(len(sizes)))
    assert max(sizes) <= stage_module.MIN_ROWS
    assert min(sizes) > stage_module.MIN_ROWS // 2
    order = kept_rows(stage.folder, [f.name for f in manifest.fragments], ["uid", "outcome"])["uid"].to_pylist()
    stays = set(order)
    assert order == [name for name in table["uid"].to_pylist() if name in stays]


def test_a_finished_stage_is_not_run_again_and_a_killed_one_leaves_nothing_behind(tmp_path: Path) -> None:
    stage = select(tmp_path, random_rows(300, 3), **SETTINGS)
    first = stage.manifest()
    stage.folder.write_bytes("p000009-0badf00d-end.parquet", b"of an earlier run")
    assert stage.run() == first
    stage.folder.delete("manifest.json")
    assert stage.run() == first
    assert not stage.folder.exists("p000009-0badf00d-end.parquet")


def test_settings_name_the_stage(tmp_path: Path) -> None:
    table = random_rows(300, 3)
    names = {
        select(tmp_path, table, **settings).folder.url
        for settings in ({}, {"where": "width > 3"}, {"dedup": {"phash": 1}}, {"top": 3, "by": "width"})
    }
    assert len(names) == 4


def test_tables_larger_than_memory_spill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 500_000
    uids = pc.utf8_lpad(pa.array(np.random.default_rng(0).permutation(n)).cast(pa.string()), 32, "0")
    shas = pc.utf8_lpad(pa.array(np.arange(n) // 2).cast(pa.string()), 64, "a")
    table = pa.table({"uid": uids, "source_sha256": shas, "width": np.arange(n) % 7})
    settings = SelectSettings(top=n // 3, by="width")

    def codes(memory: str) -> tuple[NDArray[np.uint8], bool]:
        monkeypatch.setattr(rules, "MEMORY", memory)
        scratch = tmp_path / memory
        scratch.mkdir()
        with Decision(settings, table.schema, str(scratch)) as decision:
            for start in range(0, n, 100_000):
                decision.add(table[start : start + 100_000])
            decision.resolve()
            spilled = sum(file.stat().st_size for file in scratch.iterdir()) > 0
            return decision.outcomes(0, n).codes, spilled

    in_memory, on_disk = codes("1GB"), codes("64MB")
    np.testing.assert_array_equal(in_memory[0], on_disk[0])
    assert (in_memory[1], on_disk[1]) == (False, True)


def test_no_scratch_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    select(tmp_path, random_rows(300, 1), **SETTINGS)
    assert list(scratch.iterdir()) == []
    with pytest.raises(ConfigError, match="fails on the data"):
        select(tmp_path, random_rows(300, 1), where="alt_text::INT > 3")
    assert list(scratch.iterdir()) == []


def test_too_little_scratch_space_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MEMORY", "1MB")
    n = 50_000
    with pytest.raises(StorageError, match="select needs more scratch space in"):
        select(tmp_path, rows(source_sha256=[sha(i // 2) for i in range(n)]))


def test_a_damaged_fragment_of_the_stage_before(tmp_path: Path) -> None:
    stage = select(tmp_path, random_rows(300, 4))
    assert stage.upstream is not None
    (tmp_path / "given" / stage.upstream.folder.url.rsplit("/", 1)[-1] / "p000000-00000000-end.parquet").write_bytes(
        b"x"
    )
    stage.folder.delete("manifest.json")
    with pytest.raises(StorageError, match=r"p000000-00000000-end\.parquet"):
        stage.run()
    assert stage.folder.sizes() == {}


def test_on_an_object_store(tmp_path: Path) -> None:
    table = random_rows(900, 5)
    local = select(tmp_path, table, **SETTINGS)
    remote = select("memory://corpora/select", table, **SETTINGS)
    assert remote.folder.local is None
    assert ledger(remote) == ledger(local)
    assert remote.manifest() == local.manifest()


def test_wrong_rules_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        select(tmp_path, random_rows(300, 6), where="widht > 3")
    assert not (tmp_path / "out").exists()
