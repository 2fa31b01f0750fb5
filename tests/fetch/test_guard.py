"""The SSRF guard, address by address, and for real in a network namespace that owns a public address."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from curation.fetch import guard
from curation.fetch.guard import BlockedAddress, Guard, GuardedResolver, is_disguised

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.8 192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.7 224.0.0.1
239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1
64:ff9b:1::808:808 100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1
2001:db8::1 2002:7f00:1:: 2002:808:808::1 3ffe::1 3fff::1 4000::1
5f00::1 fc00::1 fd12:3456::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
"""

PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.88.98.255 192.167.255.255 192.169.0.0 198.17.255.255
198.20.0.0 223.255.255.255
2001:200::1 2001:4860:4860::8888 2400:cb00::1 2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::808:808
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_refuses_what_is_not_public(address: str) -> None:
    assert Guard().refusal(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_lets_the_public_internet_through(address: str) -> None:
    assert Guard().refusal(address) is None


def test_the_config_opens_networks_by_name() -> None:
    guard = Guard(["10.1.0.0/16", "fd00::/8"])
    assert guard.refusal("10.1.2.3") is None
    assert guard.refusal("::ffff:10.1.2.3") is None, "the same host, in another spelling"
    assert guard.refusal("fd12::1") is None
    assert guard.refusal("10.2.0.1")
    assert guard.refusal("127.0.0.1")
    assert guard.refusal("fe80::1")


def test_what_is_no_address_is_refused() -> None:
    assert Guard(["0.0.0.0/0", "::/0"]).refusal("localhost")
    assert Guard(["0.0.0.0/0", "::/0"]).refusal("")


def test_sockets_are_made_only_for_what_is_let_through() -> None:
    guard = Guard(["127.0.0.1/32"])
    for address in [("127.0.0.2", 80), ("10.0.0.1", 80)]:
        with pytest.raises(BlockedAddress, match="not public"):
            guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", address))
    with pytest.raises(BlockedAddress, match="port 25"):
        guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 25)))
    with pytest.raises(BlockedAddress, match="family"):
        guard.open_socket((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/run/docker.sock"))
    guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 8080))).close()


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "017700000001"])
def test_names_and_odd_spellings_resolve_to_nothing_private(host: str) -> None:
    async def resolve(*networks: str) -> list[str]:
        resolver = GuardedResolver(Guard(networks))
        try:
            return [found["host"] for found in await resolver.resolve(host, 80, socket.AF_INET)]
        finally:
            await resolver.close()

    with pytest.raises(BlockedAddress, match=r"127\.0\.0\.1 is not public"):
        asyncio.run(resolve())
    assert asyncio.run(resolve("127.0.0.0/8")) == ["127.0.0.1"]


def test_names_that_hang_do_not_keep_good_ones_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def look_up(host: str, port: int, family: int) -> list[Any]:
        if host.startswith("hangs"):
            answered.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    async def resolve() -> str:
        resolver = GuardedResolver(Guard(), concurrency=100)
        waiting = [asyncio.create_task(resolver.resolve(f"hangs-{i}.example", 80)) for i in range(99)]
        try:
            await asyncio.sleep(0)
            (found,) = await asyncio.wait_for(resolver.resolve("good.example", 80), 30)
            return found["host"]
        finally:
            answered.set()
            await asyncio.gather(*waiting)
            await resolver.close()

    monkeypatch.setattr(guard, "_look_up", look_up)
    assert asyncio.run(resolve()) == "93.184.216.34"


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b"])
def test_a_host_that_cannot_be_a_name_is_a_dns_error(host: str) -> None:
    async def resolve() -> None:
        resolver = GuardedResolver(Guard())
        try:
            await resolver.resolve(host, 80)
        finally:
            await resolver.close()

    with pytest.raises(socket.gaierror):
        asyncio.run(resolve())


def test_a_public_address_end_to_end(tmp_path: Path) -> None:
    """In a network namespace whose loopback owns 93.184.216.34, only that address is fetched."""
    script = Path(__file__).with_name("in_namespace.py")
    up = "ip link set lo up && ip addr add 93.184.216.34/32 dev lo && ip addr add 10.9.8.7/32 dev lo"
    root = script.parents[2]
    probe = subprocess.run(["unshare", "-rn", "sh", "-c", up], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"NOT TESTED: this machine makes no network namespaces ({probe.stderr.strip()})")
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", f"{up} && exec {sys.executable} -m tests.fetch.in_namespace"],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "http://93.184.216.34": None,
        "http://127.0.0.1": "blocked_address",
        "http://10.9.8.7": "blocked_address",
        "http://[::1]": "blocked_address",
        "http://[::ffff:127.0.0.1]": "blocked_address",
        "http://2130706433": "blocked_address",
        "http://0x7f.1": "blocked_address",
        "http://localhost": "blocked_address",
        "redirect to http://127.0.0.1": "blocked_address",
        "redirect to http://10.9.8.7": "blocked_address",
    }


@pytest.mark.parametrize(
    ("host", "disguised"),
    [
        ("127.0.0.1", False),
        ("example.org", False),
        ("1.example", False),
        ("0x.example", False),
        ("[::1]", False),
        ("", False),
        ("2130706433", True),
        ("0", True),
        ("0x7f000001", True),
        ("0x", True),
        ("127.1", True),
        ("0x7f.1", True),
        ("010.0.0.1", True),
        ("127.0.0.1.", True),
        ("999.1.1.1", True),
        ("1.2.3.4.5", True),
        ("example.0x7f", True),
    ],
)
def test_addresses_in_disguise(host: str, disguised: bool) -> None:
    assert is_disguised(host) is disguised
