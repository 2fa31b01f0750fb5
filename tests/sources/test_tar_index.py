"""Tar headers: what `tarfile` writes in every format is found where it is, and no damage passes unseen."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from curation.sources.tar_index import EXTENSION_LIMIT, Damage, Member, Sample, samples, scan
from curation.tar import BLOCK, TarWriter


def tar(members: Iterable[tuple[str, bytes]], **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as writer:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def scanned(data: bytes) -> list[Member | Damage]:
    return list(scan(io.BytesIO(data), len(data)))


def contents(data: bytes) -> list[tuple[str, bytes]]:
    return [(m.name, data[m.offset : m.offset + m.size]) for m in scanned(data) if isinstance(m, Member)]


def problems(data: bytes) -> list[str]:
    return [d.problem for d in scanned(data) if isinstance(d, Damage)]


PLAIN = [(f"{i:05d}.{ext}", f"{i}{ext}".encode() * (i % 700)) for i in range(50) for ext in ("jpg", "json")]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format(form: int) -> None:
    names = ["a.jpg", "d/" + "é" * 40 + ".jpg", "x" * 90 + "/" + "y" * 90 + ".jpg"]
    if form != tarfile.USTAR_FORMAT:
        names += ["z" * 300 + ".jpg", "d/" * 200 + "w.jpg"]
    members = [(name, name.encode()) for name in names]
    data = tar(members, format=form)
    assert contents(data) == members
    assert problems(data) == []


def test_our_own_tars() -> None:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    places = [(name, *writer.add(name, data)) for name, data in PLAIN]
    writer.finish()
    assert [(m.name, m.offset, m.size) for m in scanned(buffer.getvalue()) if isinstance(m, Member)] == places


def test_the_tar_command(tmp_path: Path) -> None:
    for name, data in PLAIN[:20]:
        (tmp_path / name).write_bytes(data)
    os.symlink("/etc/passwd", tmp_path / "00000.png")
    os.link(tmp_path / "00001.jpg", tmp_path / "00001.png")
    subprocess.run(["tar", "-cf", "all.tar", "--sort=name", *sorted(os.listdir(tmp_path))], cwd=tmp_path, check=True)
    data = (tmp_path / "all.tar").read_bytes()
    assert contents(data) == sorted(PLAIN[:20])
    assert problems(data) == []


def test_only_regular_members() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as writer:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = 10_000 if kind == tarfile.SYMTYPE else 0  # a size that no data follow
            writer.addfile(info)
        info = tarfile.TarInfo("sparse.jpg")
        info.type = tarfile.GNUTYPE_SPARSE
        writer.addfile(info)
        info = tarfile.TarInfo("good.jpg")
        info.size = 3
        writer.addfile(info, io.BytesIO(b"yes"))
    assert contents(buffer.getvalue()) == [("good.jpg", b"yes")]
    assert problems(buffer.getvalue()) == []


def test_large_sizes() -> None:
    """A member over 8 GiB has its size in base 256 (GNU) or in a pax record; its data are not there, and it says so."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("big.jpg")
        info.size = 9 * 2**30
        data = info.tobuf(form) + bytes(2000)
        assert problems(data) == [f"cut at byte {len(data)}, inside 'big.jpg'"]


@pytest.mark.parametrize("cut", range(0, 6 * BLOCK, 300))
def test_a_cut_anywhere_is_seen(cut: int) -> None:
    data = tar([("a.jpg", b"a" * 700), ("b.jpg", b"b" * 100)])[: 5 * BLOCK]
    if cut >= 5 * BLOCK:
        assert problems(data + bytes(2 * BLOCK)) == []
        return
    found = scanned(data[:cut])
    whole = [m for m in found if isinstance(m, Member)]
    assert all(m.offset + m.size <= cut for m in whole)
    assert isinstance(found[-1], Damage)
    assert len(found) == len(whole) + 1


def test_a_cut_between_members_is_seen() -> None:
    data = tar(PLAIN[:2])
    assert problems(data[: 2 * BLOCK * 1]) != []
    end = data.index(bytes(2 * BLOCK), 0)
    end = -(-end // BLOCK) * BLOCK
    assert "without the mark that ends a tar" in problems(data[:end])[0]


@pytest.mark.parametrize("place", [3, 130, 150, 260])
def test_a_damaged_header_costs_its_own_member(place: int) -> None:
    data = bytearray(tar([(f"{i}.jpg", bytes([65 + i]) * 2000) for i in range(6)]))
    data[2 * (5 * BLOCK) + place] ^= 0x55
    assert [name for name, _ in contents(bytes(data))] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert problems(bytes(data)) == [f"damaged header at byte {2 * 5 * BLOCK}"]


def test_concatenated_tars() -> None:
    assert contents(tar(PLAIN[:4]) + tar(PLAIN[4:8])) == PLAIN[:8]


def test_hostile_extension_headers() -> None:
    def header(kind: bytes, size: int) -> bytes:
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, size
        return info.tobuf(tarfile.GNU_FORMAT)

    good = tar([("good.jpg", b"yes")])
    lengths = [b"10 size=\xc2\xb2\n", b"5009 size=" + b"9" * 4998 + b"\n"]  # digits to Python, and too many of them
    odd = [b"99999999 path=x\n", b"0 path=x\n", b"-5 path=x\n", b"12 size=1e9\n", b"x" * 600, b"9 size=-\n", *lengths]
    for body in odd:
        padded = body + bytes(-len(body) % BLOCK)
        assert contents(header(b"x", len(body)) + padded + good) == [("good.jpg", b"yes")]
    long = b"n" * (2 * EXTENSION_LIMIT)
    (found,) = [m for m in scanned(header(b"L", len(long)) + long + good) if isinstance(m, Member)]
    assert len(found.name) == EXTENSION_LIMIT
    assert problems(header(b"x", 2**40) + good)[0].startswith("cut at byte")


def test_random_damage_never_raises_and_never_points_outside() -> None:
    rng = random.Random(0)
    whole = tar(PLAIN[:12], format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"})
    for _ in range(1500):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randint(1, 20)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        for item in scanned(bytes(data)):
            if isinstance(item, Member):
                assert 0 <= item.offset <= item.offset + item.size <= len(data)


def member(name: str) -> Member:
    return Member(name, 0, 1)


def test_samples() -> None:
    names = [
        "a.jpg",
        "a.json",
        "b.txt",
        "._b.jpg",
        ".hidden",
        "README",
        "d.x/c.seg.png",
        "d.x/c.JPG",
        "a.txt",
        "a.txt",
        "e.",
    ]
    found = list(samples(iter([*map(member, names), Damage(9, "cut")])))
    assert [(s.key, list(s.members)) for s in found if isinstance(s, Sample)] == [
        ("a", ["jpg", "json"]),
        ("b", ["txt"]),
        ("d.x/c", ["seg.png", "jpg"]),
        ("a", ["txt"]),
        ("a", ["txt"]),
        ("e", [""]),
    ]
    assert found[-1] == Damage(9, "cut")
    by_key = {s.key: s for s in found if isinstance(s, Sample)}
    image = by_key["d.x/c"].image
    assert image is not None
    assert image.name == "d.x/c.JPG"
    assert by_key["b"].image is None


def test_damage_ends_a_sample() -> None:
    found = list(samples(iter([member("a.jpg"), Damage(1, "x"), member("a.txt")])))
    assert [type(item) for item in found] == [Sample, Damage, Sample]
