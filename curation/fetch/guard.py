"""The SSRF guard: which addresses a URL from a list may make us connect to.

`http.py` gives `Guard.open_socket` and `GuardedResolver` to aiohttp's connector, so that every address of every
redirect hop is checked at the moment a socket is made for it, however it was spelled (name, IP literal, decimal, hex).
The table is our own: Python's `ipaddress.is_global` calls multicast, site-local, 6to4 and NAT64 addresses global.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

Address = IPv4Address | IPv6Address

# IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and successors), without the few blocks that are
# globally reachable; multicast; and what was withdrawn from use.
NON_PUBLIC = {
    ip_network(network): what
    for network, what in {
        "0.0.0.0/8": "this network (RFC 791)",
        "10.0.0.0/8": "private (RFC 1918)",
        "100.64.0.0/10": "carrier-grade NAT (RFC 6598)",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private (RFC 1918)",
        "192.0.0.0/24": "protocol assignments (RFC 6890)",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "6to4 relay (RFC 7526)",
        "192.168.0.0/16": "private (RFC 1918)",
        "198.18.0.0/15": "benchmarking (RFC 2544)",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved or broadcast",
        "2001::/23": "protocol assignments, Teredo among them (RFC 2928, RFC 4380)",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4 (RFC 3056)",
        "3ffe::/16": "6bone, withdrawn (RFC 3701)",
        "3fff::/20": "documentation (RFC 9637)",
    }.items()
}
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that IANA has given out; the rest of IPv6 is not the public internet

# IPv6 networks whose last 32 bits are the IPv4 address that is really reached.
_EMBEDS_IPV4 = (
    IPv6Network("::ffff:0:0/96"),  # mapped
    IPv6Network("::/96"),  # compatible, withdrawn; `::` and `::1` come out as 0.0.0.0 and 0.0.0.1: refused as well
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
)

# Ports that browsers refuse because other services listen there (WHATWG Fetch, "port blocking").
_BAD_PORTS = """
1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135 137
139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719 1720
1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080
"""
BAD_PORTS = frozenset(map(int, _BAD_PORTS.split()))

DNS_THREADS = 32
"""Look-ups at once, at least. A dead name server holds a thread for many seconds, so asyncio's own few threads will not
do; and with fewer than there are transfers, names that hang would let good ones wait until their time is up."""


_NUMBER = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)")


def is_disguised(host: str) -> bool:
    """True for IPv4 addresses that are not spelled as four decimal numbers: `2130706433`, `0x7f.1`, `010.0.0.1`.

    Browsers take any host whose last label is a number for an address (WHATWG URL, "ends in a number checker"); on the
    web such spellings serve to get past guards.
    """
    if not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return False
    try:
        return str(IPv4Address(host)) != host
    except ValueError:
        return True


class BlockedAddress(OSError):
    """The guard refused an address. An OSError, because that is what connecting code lets through."""


class Guard:
    """Says which addresses may be reached.

    `allow_networks` (CIDR) opens networks that are refused otherwise; it comes from the operator's own config.
    """

    def __init__(self, allow_networks: Iterable[str] = ()) -> None:
        self._allowed = tuple(ip_network(network) for network in allow_networks)

    def refusal(self, address: str) -> str | None:
        """Why `address` (a literal, as sockets take it) is not reached, or None if it may be."""
        try:
            given: Address = ip_address(address.partition("%")[0])
        except ValueError:
            return f"{address} is no IP address"
        reached = _reached(given)
        if any(a.version == network.version and a in network for a in {given, reached} for network in self._allowed):
            return None
        for network, what in NON_PUBLIC.items():
            if reached.version == network.version and reached in network:
                return f"{address} is not public: {what}"
        if reached.version == 6 and reached not in _GLOBAL_UNICAST:
            return f"{address} is not public: outside of global unicast"
        return None

    def check(self, address: str, port: int) -> None:
        """Raises BlockedAddress where `address` or `port` may not be reached."""
        if port in BAD_PORTS:
            raise BlockedAddress(f"port {port} is not one of the web's")
        if refusal := self.refusal(address):
            raise BlockedAddress(refusal)

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address as `getaddrinfo` gives it; aiohttp's `socket_factory`. Raises BlockedAddress."""
        family, kind, protocol, _, address = info
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise BlockedAddress(f"address family {family} is not the internet")
        self.check(address[0], address[1])
        return socket.socket(family, kind, protocol)


def _reached(address: Address) -> Address:
    """The address that packets really go to."""
    if isinstance(address, IPv6Address):
        for network in _EMBEDS_IPV4:
            if address in network:
                return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class GuardedResolver(AbstractResolver):
    """Resolves names in threads of its own and hands on the addresses that the guard lets through.

    A name all of whose addresses are refused raises BlockedAddress; one that does not exist, `socket.gaierror`.
    """

    def __init__(self, guard: Guard, concurrency: int = DNS_THREADS) -> None:
        """`concurrency`: transfers at once."""
        self._guard = guard
        self._threads = ThreadPoolExecutor(max(DNS_THREADS, concurrency), thread_name_prefix="dns")

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        found: list[ResolveResult] = []
        refusals: list[str] = []
        for address_family, _, protocol, _, address in infos:
            # A link-local address needs its scope, but it is refused anyway unless a network is allowed by name.
            literal = str(address[0])
            if refusal := self._guard.refusal(literal):
                refusals.append(refusal)
                continue
            found.append(
                ResolveResult(
                    hostname=host,
                    host=literal,
                    port=port,
                    family=address_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not found and refusals:
            raise BlockedAddress(refusals[0])
        return found

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: int) -> list[tuple[Any, ...]]:
    try:
        infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError as error:  # an empty or overlong label, before any look-up
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} cannot be a host name: {error}") from None
    if not infos:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} has no address")
    return list(infos)
