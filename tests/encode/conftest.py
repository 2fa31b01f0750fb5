"""A small packed corpus, and the stage that encodes it with a tiny SDXL pipeline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from curation.config import EncodeSettings
from curation.config.stream import StreamSettings
from curation.encode.stage import Encode
from curation.storage import Folder
from curation.stream.stream import CorpusStream
from tests.pack.make_bank import CONFIG, Packed, pack, picture
from tests.stream.conftest import DENSE

COUNT = 13
SIZES = ((80, 80), (120, 80))


def encode(packed: Packed, model: Path | None, **settings: Any) -> Encode:
    """The stage, to do; the primary caption is the original one."""
    given = {"model": model and str(model), "texts": ["primary", "dense"], "run": {"batch": 4}, **settings}
    output = Folder(packed.folder.parent)
    return Encode(output, packed.pack, EncodeSettings.model_validate(given), "alt", CONFIG)


def finish(stage: Encode) -> Path:
    """Do what is left, as an engine would; the corpus's folder."""
    stage.setup(workers=1)
    for partition in stage.unfinished():
        asyncio.run(work(stage, partition))
    stage.close()
    stage.settle()
    assert stage.folder.local is not None
    return stage.folder.local


async def work(stage: Encode, partition: Any) -> None:
    async for _ in stage.work(partition):
        pass


def make_packed(folder: Path) -> Packed:
    """Pictures of two shapes in shards of 5; picture i says "picture number i" and "dense i", the first nothing."""
    pictures = [picture(i, SIZES[i % 3 == 0], caption_dense=f"a red circle, {i}" if i else "") for i in range(COUNT)]
    return pack(folder, pictures, DENSE, resolution=64, shard_samples=5)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Treat as read-only; stages of other settings may stand beside it."""
    return make_packed(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def encoded(packed: Packed, sdxl_folder: Path) -> Path:
    """The corpus of latents and embeddings in fp16; treat as read-only."""
    return finish(encode(packed, sdxl_folder))


def stream(corpus: Path, **settings: Any) -> CorpusStream:
    """All of a corpus in batches of one."""
    given = {"corpora": [{"path": str(corpus)}], "batch": 1, **settings}
    return CorpusStream(StreamSettings.model_validate(given))
