"""The run that nobody disturbs: its pictures and settings, and what it means to have packed the same."""

from __future__ import annotations

from typing import Any

from tests.pack.make_bank import Packed, picture

PICTURES = [picture(i, (150 + 11 * (i % 9), 140 + 13 * (i % 7)), ("jpg", "png", "webp")[i % 3]) for i in range(25)]
SETTINGS: dict[str, Any] = {"resolution": 128, "shard_samples": 6}


def beside(packed: Packed) -> dict[str, bytes]:
    """The files beside the shards, without what names the randomly named fragments of the bank."""
    return {name: (packed.folder / name).read_bytes() for name in ("index.parquet", "wids.json", "croissant.json")}


def same(one: Packed, other: Packed) -> None:
    assert one.shards() == other.shards()
    assert beside(one) == beside(other)
    assert (one.folder / "manifest.json").read_bytes() == (other.folder / "manifest.json").read_bytes()
