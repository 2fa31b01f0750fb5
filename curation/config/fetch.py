"""Settings of fetch: one GET a row, and the image check."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from curation.config.base import Bytes, Settings


class FetchRun(Settings):
    """Speed of fetch."""

    concurrency: int = Field(256, ge=1)
    """Connections at once, over all workers together."""
    per_host: int = Field(8, ge=1)
    """Connections at once to one host, over all workers (never under one a worker)."""
    workers: int = Field(0, ge=0)
    """Network processes; 0: one for each two cores of the cluster."""
    decoders: int = Field(0, ge=0)
    """Image-check processes of each worker; 0: two (a worker's cores)."""


ImageFormat = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"]


class FetchSettings(Settings):
    """One GET a row, stopped as soon as the header shows that the image will not do; then the image check."""

    engine: Literal["async", "img2dataset"] = "async"
    """`async`: keep-alive, header-first. `img2dataset`: that library's downloader and resizer (Python < 3.13)."""
    min_side: int = Field(0, ge=0)
    """Reject images whose shorter side is under this many pixels."""
    max_aspect: float | None = Field(None, ge=1)
    """Reject images whose longer side is over this many times the shorter."""
    max_pixels: int = Field(100_000_000, ge=1)
    """Reject images of more pixels than this (read from the header, before any decoding)."""
    min_bytes: Bytes = 0
    """Reject files smaller than this."""
    max_bytes: Bytes = 50_000_000
    """Reject files larger than this; counted on the stream, whatever Content-Length says."""
    formats: tuple[ImageFormat, ...] = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")
    """Formats that may be decoded; told by content, never by name or Content-Type."""
    timeout_s: float = Field(30, gt=0)
    """Hard wall deadline of one try, from connect to last byte, redirects included."""
    connect_timeout_s: float = Field(10, gt=0)
    """Deadline of DNS, TCP and TLS together."""
    retries: int = Field(2, ge=0)
    """Further tries after transient errors (never after 404)."""
    max_redirects: int = Field(5, ge=0)
    """Redirects followed; each hop passes every check again."""
    user_agent: str = "curation/0.1 (+image corpus builder; honours X-Robots-Tag)"
    """What the fetcher calls itself. Put an address here where site owners can reach you."""
    opt_out_headers: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    """X-Robots-Tag directives that make a row `opt_out`; an empty list turns the check off."""
    robots_txt: bool = False
    """Also ask each host's robots.txt (one more request a host)."""
    host_failures: int = Field(8, ge=1)
    """Connection failures in a row after which a host is put aside for the rest of its rows."""
    allow_networks: tuple[str, ...] = ()
    """Non-public networks that may be reached all the same, as CIDR: `127.0.0.0/8` for a server on this machine."""
    decode_cpu_s: float = Field(10, gt=0)
    """CPU seconds that decoding one image may take."""
    decode_memory: Bytes = 2_000_000_000
    """Address space of a decoder process."""
    run: FetchRun = FetchRun()
    """Speed only."""

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        import ipaddress

        for network in networks:
            ipaddress.ip_network(network)
        return networks
