"""Two small packed corpora with three buckets each, and how to stream them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.config.stream import StreamSettings
from curation.stream.stream import CorpusStream
from tests.pack.make_bank import pack, picture

SIZES = ((80, 80), (120, 80), (80, 120))
DENSE = [pa.field("caption_dense", pa.string())]

Make = Callable[..., CorpusStream]


def make_corpus(folder: Path, count: int, first: int = 0) -> Path:
    """`count` pictures, half of them square, in shards of 7; picture i says "dense i"."""
    pictures = [picture(i, SIZES[(0, 1, 0, 2)[i % 4]], caption_dense=f"dense {i}") for i in range(first, first + count)]
    return pack(folder, pictures, DENSE, resolution=64, shard_samples=7).folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), 110)


@pytest.fixture(scope="session")
def other_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("other"), 60, first=1000)


@pytest.fixture
def stream(corpus: Path) -> Make:
    """Makes a stream over `corpus`, or over `corpora=[…]`; `rank` and `world` beside settings."""

    def make(rank: int = 0, world: int = 1, corpora: list[dict[str, Any]] | None = None, **given: Any) -> CorpusStream:
        listed = corpora or [{"path": str(corpus)}]
        settings = StreamSettings.model_validate({"batch": 12, "corpora": listed, **given})
        return CorpusStream(settings, rank=rank, world=world)

    return make


def keys(stream: CorpusStream, batches: int | None = None) -> list[list[str]]:
    """Keys of the next batches of this rank, or of all that are left of the epoch."""
    found = []
    for batch in stream:
        found.append([sample.key for sample in batch.samples])
        if batches is not None and len(found) == batches:
            break
    return found


@pytest.fixture
def run(corpus: Path, other_corpus: Path, tmp_path: Path) -> Any:
    """Runs blocks one after the other, with their paths here; returns their variables."""
    here = {
        '"runs/laion-hr/pack-0a1b2c3d4e5f"': repr(str(corpus)),
        '"runs/photos/pack-5f4e3d2c1b0a"': repr(str(other_corpus)),
        '"/scratch/shards"': repr(str(tmp_path)),
        '"s3://corpora/laion-hr/pack-0a1b2c3d4e5f"': '"s3://shown/one"',
        '"batch": 256': '"batch": 16',
    }

    def run(*blocks: str) -> dict[str, Any]:
        found: dict[str, Any] = {"__name__": "__main__"}  # so that Ray sends functions by value
        for block in blocks:
            for shown, real in here.items():
                block = block.replace(shown, real)
            exec(block, found)
        return found

    return run
