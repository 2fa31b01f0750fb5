"""A whole run that is killed or stopped goes on where it was, and ends with the bytes of one that never was."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation.fragments import FRAGMENT, read_manifest
from curation.fsck import fsck
from curation.storage import Folder
from tests.journey import corpus_bytes, curate, curate_done, outcomes, settings, stage_folder, write_config
from tests.small_origin import small_origin

ROWS = 1_500
STAGES = {
    "fetch": {"min_side": 64, "run": {"concurrency": 8}},
    "select": {"dedup": {"exact": "none"}},
    "pack": {"resolution": 64, "buckets": "none", "shard_samples": 100},
}


@dataclass
class Web:
    listed: Path
    asked: list[str]
    whole: dict[str, str]
    """The corpus of a run that nobody disturbed."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("web")
    with small_origin(ROWS, folder / "list.parquet") as asked:
        config = write_config(folder / "config.yaml", settings(folder / "list.parquet", folder / "out", **STAGES))
        code, _, err = curate_done("run", config, "--engine", "local")
        assert code == 0, err
        yield Web(folder / "list.parquet", asked, corpus_bytes(folder / "out"))


def prepare(web: Web, folder: Path) -> tuple[Path, Path]:
    """Config and output of a run."""
    web.asked.clear()
    return write_config(folder / "config.yaml", settings(web.listed, folder / "out", **STAGES)), folder / "out"


def fragments(output: Path, stage: str) -> list[str]:
    return [p.name for p in output.glob(f"{stage}-*/*.parquet") if FRAGMENT.fullmatch(p.name)]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until something is so, of a run that is not finished."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def descendants(pid: int) -> dict[int, str]:
    """Living processes below `pid`: pid → command line."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if stat[0] != "Z":
                parents[int(entry.name)] = int(stat[1])
    found: dict[int, str] = {}
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= {child: commands[child] for child in level}
    return found


def wait_for_end(pids: Iterable[int]) -> None:
    """Until none of these processes lives; they must not outlive their driver."""
    deadline, pids = time.monotonic() + 60, list(pids)
    while living := [pid for pid in pids if lives(pid)]:
        assert time.monotonic() < deadline, f"processes outlive their driver: {living}"
        time.sleep(0.1)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def finish(web: Web, config: Path, output: Path) -> None:
    """Run again, with whichever engine; it must end with the same bytes."""
    code, _, err = curate_done("run", config, "--engine", "local")
    assert code == 0, err
    assert corpus_bytes(output) == web.whole
    assert not [f for f in fsck(Folder(output), deep=True, repair=True) if f.wrong]
    assert fsck(Folder(output), deep=True) == []
    assert len(outcomes(output, "fetch")) == ROWS


def committed_rows(output: Path) -> int:
    """Rows that an unfinished fetch has committed."""
    folder = Folder(next(output.glob("fetch-*")))
    assert read_manifest(folder) is None
    return sum(folder.read_table(name, ["uid"]).num_rows for name in fragments(output, "fetch"))


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_driver(process: subprocess.Popen[str]) -> None:
    below = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_for_end(pid for pid, command in below.items() if "Agent" not in command)  # Ray's own linger, and do nothing


def stop(process: subprocess.Popen[str], sent: signal.Signals, output: Path) -> None:
    """Ask a run that is in fetch to stop: it says how to go on, and leaves nothing that runs."""
    process.send_signal(signal.SIGSTOP)  # or on a busy machine it comes to its end while we look around
    below = descendants(process.pid)
    process.send_signal(sent)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + sent, err
    assert f"curate run {' '.join(process.args[4:])}" in err  # type: ignore[index]
    assert "Traceback" not in err
    wait_for_end(below)
    assert read_manifest(stage_folder(output, "fetch")) is None


def test_kill_9_of_the_driver_in_fetch_and_then_in_pack(web: Web, tmp_path: Path) -> None:
    config, output = prepare(web, tmp_path)
    process = curate("run", config, "--engine", "local")
    wait_for(lambda: fragments(output, "fetch"), process)
    kill_driver(process)
    web.asked.clear()
    committed = committed_rows(output)
    process = curate("run", config, "--engine", "local")
    wait_for(lambda: fragments(output, "pack"), process)
    kill_driver(process)
    assert len(web.asked) == ROWS - committed
    finish(web, config, output)
    assert len(web.asked) == ROWS - committed


def test_stopping_is_clean(web: Web, tmp_path: Path) -> None:
    config, output = prepare(web, tmp_path)
    for sent in (signal.SIGINT, signal.SIGTERM):
        web.asked.clear()
        process = curate("run", config, "--engine", "local")
        wait_for(lambda: web.asked and fragments(output, "fetch"), process)
        stop(process, sent, output)
    finish(web, config, output)


def test_one_run_on_ray_through_all_of_it(web: Web, tmp_path: Path) -> None:
    """SIGTERM; kill -9 of the whole tree; kill -9 of the workers, and Ctrl-C; and in pack kill -9 of the driver."""
    config, output = prepare(web, tmp_path)

    def start() -> subprocess.Popen[str]:
        web.asked.clear()
        return curate("run", config, "--engine", "ray")

    process = start()
    wait_for(lambda: web.asked, process)
    stop(process, signal.SIGTERM, output)

    process = start()
    wait_for(lambda: fragments(output, "fetch"), process)
    kill_all([process.pid, *descendants(process.pid)])
    process.communicate()

    process = start()
    wait_for(lambda: web.asked, process)
    workers = [pid for pid, command in descendants(process.pid).items() if "_Worker" in command]
    assert workers
    kill_all(workers)
    wait_for_end(workers)
    web.asked.clear()
    wait_for(lambda: web.asked, process)  # others go on in their place
    stop(process, signal.SIGINT, output)

    committed = committed_rows(output)
    process = start()
    wait_for(lambda: fragments(output, "pack"), process)
    kill_driver(process)
    assert len(web.asked) == ROWS - committed
    finish(web, config, output)
    assert len(web.asked) == ROWS - committed
