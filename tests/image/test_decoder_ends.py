"""Decoders and their pool end cleanly: no process, no open file and no waiting check stays behind."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading

import pytest
from PIL import ImageCms

from curation.config import FetchSettings
from curation.errors import ConfigError, RunError
from curation.image.decoder import Decoder
from curation.image.pool import DecoderPool
from curation.row import Reason
from tests.image.processes import children, running, wait_for, wait_until_at_work
from tests.image.samples import ALL_FORMATS, CPU_BOMB, GOOD, photo, saved

# ---------------------------------------------------------------------------------------------------------------------
# Nothing stays behind


def test_no_zombie_and_no_open_file_stays() -> None:
    before, kids = sorted(os.listdir("/proc/self/fd")), children()
    with Decoder(FetchSettings(decode_cpu_s=0.3)) as decoder:
        for data in (GOOD, CPU_BOMB, GOOD, b"", CPU_BOMB):
            decoder.check(data)
    with Decoder(FetchSettings(decode_memory=100_000_000)) as unfit, pytest.raises(ConfigError):
        unfit.check(GOOD)
    Decoder(FetchSettings()).close()  # never used
    assert children() == kids
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(RunError, match="closed"):
        decoder.check(GOOD)


def test_closing_ends_a_check_at_once() -> None:
    """It must raise, not become a failure of the row: a clean stop would commit that."""
    decoder = Decoder(FetchSettings(decode_cpu_s=100))
    decoder.check(GOOD)
    victim = decoder.pid
    assert victim is not None
    caught: list[BaseException] = []

    def check() -> None:
        try:
            decoder.check(CPU_BOMB)
        except RunError as error:
            caught.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    wait_until_at_work(victim)
    decoder.close()
    thread.join(20)
    assert not thread.is_alive()
    assert len(caught) == 1
    assert not running(victim)


@pytest.mark.parametrize("at_work", [False, True])
def test_the_child_dies_with_its_parent(at_work: bool) -> None:
    """kill -9 of the parent, while the child waits and while it computes (then its CPU limit, at the latest)."""
    script = (
        "import sys, threading\n"
        "from curation.config import FetchSettings\n"
        "from curation.image.decoder import Decoder\n"
        "decoder = Decoder(FetchSettings(decode_cpu_s=1))\n"
        "decoder.check(b'x' * 100)\n"
        "print(decoder.pid, flush=True)\n"
        "data = sys.stdin.buffer.read()\n"
        "decoder.check(data)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    if at_work:
        parent.stdin.write(CPU_BOMB)
        parent.stdin.close()
        wait_until_at_work(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    wait_for(lambda: not running(child))


# ---------------------------------------------------------------------------------------------------------------------
# Many at once, and damage at random


def test_pool_from_asyncio() -> None:
    """Answers go to the files that asked, a bomb among them costs one row, and the loop stays free meanwhile."""
    files = [saved(photo(20 + n, 30), "png") for n in range(60)]
    files[17] = CPU_BOMB
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    async def run() -> list[object]:
        ticker = asyncio.create_task(tick())
        with DecoderPool(FetchSettings(decode_cpu_s=0.3), 2) as pool:
            found = await asyncio.gather(*(pool.check(data) for data in files))
            assert pool.starts <= 3
        ticker.cancel()
        return [checked.verdict.reason or checked.width for checked in found]

    expected: list[object] = [20 + n for n in range(60)]
    expected[17] = Reason.DECODE_CPU_LIMIT
    assert asyncio.run(run()) == expected
    assert ticks > 5


def test_closing_the_pool_cancels_what_waits() -> None:
    async def run() -> list[object]:
        pool = DecoderPool(FetchSettings(decode_cpu_s=100), 1)
        await pool.check(GOOD)
        tasks = [asyncio.create_task(pool.check(data)) for data in (CPU_BOMB, GOOD, GOOD)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(pool.close)
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(run())
    assert isinstance(found[0], RunError)
    assert all(isinstance(f, asyncio.CancelledError | RunError) for f in found)


def test_random_damage(decoder: Decoder) -> None:
    """Flipped bits and bytes in every format: an outcome each, no bug, no dead child."""
    rng = random.Random(11)
    modes = {"gif": "P", "png": "RGBA", "tiff": "RGB", "webp": "RGBA"}
    seeds = [saved(photo(40, 30).convert(modes.get(f, "RGB")), f) for f in ALL_FORMATS]
    seeds += [saved(photo(40, 30), "tiff", compression="tiff_lzw"), saved(photo(40, 30), "jpeg", progressive=True)]
    seeds += [saved(photo(30, 30), "webp", save_all=True, append_images=[photo(30, 30, 1)])]
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    seeds += [saved(photo(16, 16), "jpeg", icc_profile=icc, quality=10), saved(photo(16, 16), "tiff", icc_profile=icc)]
    reasons = set()
    for _ in range(1500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        verdict = decoder.check(bytes(data)).verdict
        reasons.add(verdict.reason)
    assert {None, Reason.DAMAGED_IMAGE, Reason.TRUNCATED_IMAGE} <= reasons
    assert not reasons & {Reason.DECODER_DIED, Reason.DECODE_CPU_LIMIT}
