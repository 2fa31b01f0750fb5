"""Gives each row of a list its `uid`, and what `spread` orders by: 128 bits of name, a host, a key.

The meaning is `curation.names.normalise_url` and `make_uid`; for addresses that are in their normal form already (99 %
of LAION's) a regular expression tells so, eight times as fast. A test holds the two together.
"""

from __future__ import annotations

import re
from binascii import hexlify
from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.names import normalise_url
from curation.row import Reason
from curation.sources.query import PLACE, SAMPLE

_NORMAL = re.compile(
    r"https?://([a-z0-9._-]*[a-z0-9_-])"  # lower case, no port, no closing dot
    r"/[A-Za-z0-9_.~/%:@!$&'()*+,;=-]*"
    r"(?:\?[A-Za-z0-9_.~/%:@!$&'()*+,;=?-]+)?"
)
_LONGEST = 8192
"""Characters; `normalise_url` takes no longer address."""


def normal_form(url: str) -> tuple[str, str] | None:
    """(`normalise_url(url)`, its host), or None if `url` is no URL."""
    match = _NORMAL.fullmatch(url)
    if match is not None and len(url) <= _LONGEST:
        return url, match[1]
    normal = normalise_url(url)
    return None if normal is None else (normal, urlsplit(normal).hostname or "")


def name_rows(batch: pa.Table, source: str, seed: int) -> tuple[pa.Table, pa.Table]:
    """(`batch` with `uid`, `source`, `reason` and `detail` set; what `spread` needs of each row).

    The second has `hi` and `lo` (uint64, the uid), `host` (uint64: a keyed hash of the host, or of the file that holds
    the image), `key` (uint64: a keyed hash of the uid) and `valid` (bool: no reason yet to drop the row).
    """
    urls = batch["url"].to_pylist()
    samples = batch[SAMPLE].to_pylist()
    held = batch["held_path"].to_pylist()
    places = batch[PLACE].to_pylist()
    reasons = batch["reason"].to_pylist()
    details = batch["detail"].to_pylist()
    names: list[str] = []
    hosts: list[str] = []
    for i, url in enumerate(urls):
        known = normal_form(url) if url else None
        if known is not None:
            names.append(known[0])
            hosts.append(held[i] or known[1])
        elif samples[i] is not None:
            names.append(samples[i])
            hosts.append(held[i] or "")
        else:
            names.append(f"invalid\0{places[i] or url or ''}")
            hosts.append("")
            if reasons[i] is None:
                reasons[i] = Reason.INVALID_URL.value
                problem = f"no URL: {url[:200]!r}" if url else "no URL: the column is empty"
                details[i] = f"{places[i]}: {problem}" if places[i] else problem
    uid, hi, lo = uids(source, names)
    batch = _set(batch, "uid", uid)
    batch = _set(batch, "source", pa.array([source] * len(urls), pa.string()))
    batch = _set(batch, "reason", pa.array(reasons, pa.string()))
    batch = _set(batch, "detail", pa.array(details, pa.string()))
    for name in ("expected_md5", "expected_sha256"):
        digest = pc.utf8_lower(pc.utf8_trim_whitespace(batch[name]))
        batch = _set(batch, name, pc.if_else(pc.equal(digest, ""), None, digest))
    order = pa.table(
        {
            "hi": hi,
            "lo": lo,
            "host": host_hashes(hosts, seed),
            "key": mix(hi ^ mix(np.full(1, seed % 2**64, np.uint64))),
            "valid": pa.array([reason is None for reason in reasons], pa.bool_()),
        }
    )
    return batch, order


def uids(source: str, names: Sequence[str]) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """`make_uid(source, name)` for each name: as text, and as two uint64 halves."""
    prefix = f"{source}\0".encode()
    digests = b"".join(
        [blake2b(prefix + name.encode("utf-8", "surrogatepass"), digest_size=16).digest() for name in names]
    )
    offsets = np.arange(0, 32 * len(names) + 1, 32, dtype=np.int32)
    text = pa.StringArray.from_buffers(len(names), pa.py_buffer(offsets), pa.py_buffer(hexlify(digests)))
    halves = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return text, halves[:, 0].copy(), halves[:, 1].copy()


def host_hashes(hosts: Sequence[str], seed: int) -> np.ndarray:
    """A keyed 64-bit hash of each host, uint64."""
    coded = pa.array(hosts, pa.string()).dictionary_encode()
    key = seed.to_bytes(16, "little", signed=True)
    hashed = [
        int.from_bytes(blake2b(h.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest(), "little")
        for h in coded.dictionary.to_pylist()
    ]
    spread: np.ndarray = np.array(hashed, np.uint64)[coded.indices.to_numpy()]
    return spread


def mix(values: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that leaves no pattern: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _set(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), pa.field(name, values.type), values)
    return table.append_column(name, values)
