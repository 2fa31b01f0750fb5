"""The disposable child: whatever happens to it costs one row."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from curation.config import FetchSettings
from curation.errors import ConfigError, RunError
from curation.image import decoder as decoder_module
from curation.image.decoder import Decoder
from curation.row import KEPT, Outcome, Reason
from tests.image.processes import running, wait_for, wait_until_at_work
from tests.image.samples import CPU_BOMB, GOOD, blank_png, insert_segments, many_scans, photo, saved

# ---------------------------------------------------------------------------------------------------------------------
# The way of an image


def test_kept_rejected_and_the_bytes(decoder: Decoder) -> None:
    kept = decoder.check(GOOD)
    assert kept.verdict == KEPT
    assert kept.stored is GOOD  # unchanged bytes do not come back through the pipe
    assert kept.columns()["width"] == 320
    with_comment = insert_segments(GOOD, (0xFE, b"a comment"))
    stripped = decoder.check(with_comment)
    assert stripped.stored == GOOD
    assert stripped.pixel_sha256 == kept.pixel_sha256
    rejected = decoder.check(b"<html><body>no image here, only this text</body></html>")
    assert rejected.verdict.reason is Reason.NOT_AN_IMAGE
    assert rejected.stored is None
    assert decoder.starts == 1


def test_settings_reach_the_child() -> None:
    with Decoder(FetchSettings(min_side=250, formats=("jpeg",))) as strict:
        assert strict.check(GOOD).verdict.reason is Reason.TOO_SMALL
        assert strict.check(saved(photo(), "png")).verdict.reason is Reason.FORMAT_NOT_ALLOWED


def test_large_files_both_ways(decoder: Decoder) -> None:
    """Ten times what a pipe holds, in and out."""
    noise = random.Random(0).randbytes(2000 * 1500 * 3)
    bmp = saved(Image.frombytes("RGB", (2000, 1500), noise), "bmp")
    checked = decoder.check(bmp)
    assert checked.verdict == KEPT
    assert checked.stored is not None
    assert len(checked.stored) > 9_000_000


def test_the_child_is_small_and_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    with Decoder(FetchSettings()) as decoder:
        decoder.check(GOOD)
        assert b"hush" not in Path(f"/proc/{decoder.pid}/environ").read_bytes()
        maps = Path(f"/proc/{decoder.pid}/maps").read_text()
        assert not [name for name in ("torch", "pyarrow", "pydantic", "/ray/", "aiohttp") if name in maps]
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{decoder.pid}/status").read_text().splitlines() if ":" in line
        )
        assert int(status["VmRSS"].split()[0]) < 120_000  # kB
        assert int(status["Threads"]) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Bombs


def test_cpu_bomb_costs_its_row_alone() -> None:
    """A progressive JPEG of 800 scans: valid, under the pixel cap, 120 kB, minutes of CPU."""
    assert len(CPU_BOMB) < 300_000
    with Decoder(FetchSettings(decode_cpu_s=0.5)) as decoder:
        assert decoder.check(GOOD).verdict == KEPT
        assert decoder.check(CPU_BOMB).verdict.reason is Reason.DECODE_CPU_LIMIT
        assert decoder.check(GOOD).verdict == KEPT
        assert decoder.starts == 2


def test_cpu_time_is_counted_for_each_image_alone() -> None:
    with Decoder(FetchSettings(decode_cpu_s=0.4)) as decoder:
        large = saved(photo(1600, 1200), "jpeg", progressive=True)
        assert all(decoder.check(large).verdict == KEPT for _ in range(40))
        assert decoder.starts == 1


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: many_scans(1024, 0, components=3), id="progressive jpeg"),
        pytest.param(lambda: blank_png(9000, 9000, 1, 3), id="palette png"),
        pytest.param(lambda: blank_png(9000, 9000, 1, 0), id="grey png"),
    ],
)
def test_memory_bomb_costs_its_row_alone(bomb: Callable[[], bytes]) -> None:
    with Decoder(FetchSettings(decode_memory=600_000_000)) as decoder:
        data = bomb()
        assert len(data) < 1_000_000
        assert decoder.check(GOOD).verdict == KEPT
        assert decoder.check(data).verdict.reason is Reason.DECODE_MEMORY_LIMIT
        assert decoder.check(GOOD).verdict == KEPT
        assert decoder.starts == 2


def test_a_limit_that_holds_no_decoder_is_a_wrong_setting() -> None:
    with Decoder(FetchSettings(decode_memory=100_000_000)) as decoder, pytest.raises(ConfigError) as caught:
        decoder.check(GOOD)
    assert caught.value.path == "stages.fetch.decode_memory"


# ---------------------------------------------------------------------------------------------------------------------
# Deaths


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_at_work(number: signal.Signals) -> None:
    with Decoder(FetchSettings(decode_cpu_s=100)) as decoder:
        decoder.check(GOOD)
        victim = decoder.pid
        assert victim is not None

        def kill() -> None:
            wait_until_at_work(victim)
            os.kill(victim, number)

        killer = threading.Thread(target=kill)
        killer.start()
        checked = decoder.check(CPU_BOMB)
        killer.join()
        assert checked.verdict.reason is Reason.DECODER_DIED
        assert checked.verdict.outcome is Outcome.FAILED
        assert number.name in checked.verdict.detail
        assert decoder.check(GOOD).verdict == KEPT
        assert decoder.pid != victim


def test_killed_between_two_images_costs_no_row(decoder: Decoder) -> None:
    decoder.check(GOOD)
    assert decoder.pid is not None
    os.kill(decoder.pid, signal.SIGKILL)
    wait_for(lambda: decoder.pid is None or not running(decoder.pid))
    assert decoder.check(GOOD).verdict == KEPT
    assert decoder.starts == 2


SABOTAGE = """
import ctypes, time, os
import curation.image.check as module
real = module.check
def check(data, limits):
    if data.startswith(b"SEGFAULT"):
        ctypes.string_at(0)
    if data.startswith(b"ABORT"):
        os.abort()
    if data.startswith(b"SLEEP"):
        time.sleep(1000)
    if data.startswith(b"BUG"):
        return 1 // 0
    if data.startswith(b"EXIT"):
        os._exit(3)
    if data.startswith(b"NOISE"):
        os.write(1, b"x" * 100); os.write(2, b"y" * 10_000_000)
    return real(data, limits)
module.check = check
"""


@pytest.fixture
def sabotaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoder]:
    """A decoder whose child really crashes, sleeps or raises when the file asks for it."""
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decoder_module, "GRACE_S", 1.5)
    with Decoder(FetchSettings(decode_cpu_s=0.5)) as found:
        yield found


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"SEGFAULT", "signal SIGSEGV"),
        (b"ABORT", "signal SIGABRT"),
        (b"EXIT", "exit code 3"),
        (b"SLEEP", "no answer within 3 s"),
    ],
)
def test_every_death_has_its_detail(sabotaged: Decoder, data: bytes, detail: str) -> None:
    checked = sabotaged.check(data)
    assert (checked.verdict.reason, checked.verdict.detail) == (Reason.DECODER_DIED, detail)
    assert sabotaged.check(GOOD).verdict == KEPT
    assert sabotaged.starts == 2


def test_what_libraries_print_goes_nowhere(sabotaged: Decoder) -> None:
    assert sabotaged.check(b"NOISE and then some more bytes that are no image").verdict.reason is Reason.NOT_AN_IMAGE
    assert sabotaged.check(GOOD).verdict == KEPT
    assert sabotaged.starts == 1


def test_a_bug_raises_with_the_childs_traceback(sabotaged: Decoder) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        sabotaged.check(b"BUG")
    assert sabotaged.check(GOOD).verdict == KEPT


def test_a_child_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "simplejpeg.py").write_text("raise ImportError('built for another machine')")
    monkeypatch.setattr(decoder_module, "_environment", lambda: {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"})
    with Decoder(FetchSettings()) as decoder, pytest.raises(RunError, match="built for another machine"):
        decoder.check(GOOD)


def test_ctrl_c_and_sigterm_leave_the_child_to_its_parent(decoder: Decoder) -> None:
    """A signal to the whole process group must not turn images into failures before the parent stops cleanly."""
    decoder.check(GOOD)
    assert decoder.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(decoder.pid, number)
    assert decoder.check(GOOD).verdict == KEPT
    assert decoder.starts == 1


def test_an_exception_in_the_parent_does_not_shift_the_answers(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while waiting for an answer: the next image must not get it."""
    decoder.check(GOOD)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(decoder_module, "_read_answer", interrupted)
        decoder.check(saved(photo(64, 64), "png"))
    assert decoder.check(GOOD).width == 320
