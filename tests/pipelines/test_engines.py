"""Both engines end with the same rows; a dead worker costs nothing; a bug stops the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import ConfigError, RunError
from curation.fragments import Fragment, committed
from curation.fsck import fsck
from curation.stage import Pool, kept_rows
from curation.storage import Folder
from pipelines.engines import Engine, make_engine, on_ray
from tests.toys import Numbers, Squares

COUNT = 205


def run(engine: Engine, output: Folder, **trouble: object) -> tuple[Squares, list[Fragment]]:
    numbers = Numbers(output, COUNT)
    engine.run_solo(numbers)
    squares = Squares(output, numbers, **trouble)  # type: ignore[arg-type]
    heard: list[Fragment] = []
    engine.run_pool(squares, heard.append)
    return squares, heard


def rows_of(stage: Squares) -> list[dict[str, object]]:
    manifest = stage.manifest()
    assert manifest is not None
    table = kept_rows(stage.folder, [f.name for f in manifest.fragments], ["uid", "n", "square", "sha256", "outcome"])
    return table.sort_by("n").to_pylist()


def test_parity(tmp_path: Path, ray_engine: Engine) -> None:
    results = []
    for name, engine in (("local", make_engine("local")), ("ray", ray_engine)):
        output = Folder(tmp_path / name)
        squares, heard = run(engine, output)
        manifest = squares.manifest()
        assert manifest is not None
        assert sum(f.counts.rows for f in heard) == COUNT == manifest.counts.rows
        assert manifest.counts.sums == {"square": sum(n * n for n in range(COUNT))}
        assert fsck(output, deep=True) == []
        results.append((rows_of(squares), manifest.counts, squares.fingerprint))
    assert results[0] == results[1]
    assert [r["n"] for r in results[0][0]] == [n for n in range(COUNT) if n % 7]


def test_finished_partitions_are_not_done_again(tmp_path: Path, ray_engine: Engine) -> None:
    log = tmp_path / "log"
    output = Folder(tmp_path / "out")
    squares, _ = run(make_engine("local"), output, log=log)
    squares.folder.delete("manifest.json")
    lost = committed(squares.folder)[3]
    for name in lost:
        squares.folder.delete(name)
    log.unlink()
    run(ray_engine, output, log=log)
    redone = {int(n) for line in log.read_text().splitlines() for n in line.split()[1:]}
    assert redone == set(range(60, 80))
    assert len(rows_of(squares)) == len([n for n in range(COUNT) if n % 7])


def test_worker_that_dies_is_replaced_and_nothing_is_lost_or_doubled(tmp_path: Path, ray_engine: Engine) -> None:
    log = tmp_path / "log"
    squares, _ = run(ray_engine, Folder(tmp_path / "out"), log=log, trouble="die once")
    assert log.with_suffix(".died").exists()
    assert [r["n"] for r in rows_of(squares)] == [n for n in range(COUNT) if n % 7]


def test_partition_that_always_kills_its_worker_ends_the_run(
    tmp_path: Path, ray_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    with pytest.raises(RunError, match="killed its worker 2 times"):
        run(ray_engine, Folder(tmp_path / "out"), log=log, trouble="die always")
    assert sum(" 33" in line for line in log.read_text().splitlines()) == 2


def test_a_worker_that_cannot_start_is_told_as_that(tmp_path: Path, ray_engine: Engine) -> None:
    with pytest.raises(RunError, match=r"stage squares: a worker could not start: .*a bug in setup"):
        run(ray_engine, Folder(tmp_path), trouble="bug in setup")


def test_workers_of_a_cluster_work_in_the_callers_folder(
    tmp_path: Path, ray_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machines were started elsewhere."""
    monkeypatch.chdir(tmp_path)
    squares, _ = run(ray_engine, Folder("out"))
    assert fsck(Folder(tmp_path / "out"), deep=True) == []
    assert squares.manifest() is not None


def test_workers_that_share_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "largest_machine", {"GPU": 8.0, "CPU": 96.0}.__getitem__)
    assert on_ray._on_one_machine(Pool(64, cpus=1, gpus=1), 64) == 8
    assert on_ray._on_one_machine(Pool(64, cpus=1, gpus=0.25), 64) == 32
    assert on_ray._on_one_machine(Pool(400, cpus=1), 400) == 96
    assert on_ray._on_one_machine(Pool(3, cpus=200), 3) == 1


def test_gpus_that_no_machine_has_are_refused_not_waited_for(tmp_path: Path, ray_engine: Engine) -> None:
    class Wide(Squares):
        def pool(self, cpus: float, gpus: float) -> Pool:
            return Pool(1, cpus=1, gpus=1000)

    numbers = Numbers(Folder(tmp_path), COUNT)
    ray_engine.run_solo(numbers)
    ray_engine.check(Squares(Folder(tmp_path), numbers))
    with pytest.raises(ConfigError, match="1000 GPUs a worker were asked for") as caught:
        ray_engine.check(Wide(Folder(tmp_path), numbers))
    assert caught.value.path == "stages.squares.run.gpus"


@pytest.mark.parametrize("name", ["local", "ray"])
def test_bug_stops_the_run(tmp_path: Path, name: str, ray_engine: Engine) -> None:
    engine = ray_engine if name == "ray" else make_engine("local")
    with pytest.raises(Exception, match="a bug") as caught:
        run(engine, Folder(tmp_path), trouble="bug")
    assert not isinstance(caught.value, RunError)
