"""The shards of `benchmarks.cache` hold tensors of the real models' shapes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cache import SDXL, SEMANTIC, TEXT, bytes_each, encoded, packed, rate
from curation.encode.cache import cached_of
from curation.stream.corpus import open_corpus

BLOCK = 512
"""What tars round up to."""


def test_shapes_and_bytes(tmp_path: Path) -> None:
    pack = packed(tmp_path, 16)
    sdxl = encoded(pack, tmp_path / "sdxl", **SDXL, texts=())
    semantic = encoded(pack, tmp_path / "semantic", **SEMANTIC)
    both = encoded(pack, tmp_path / "both", **SEMANTIC, **TEXT)
    facts = cached_of(open_corpus(both))
    assert facts is not None
    assert facts.semantic is not None
    assert facts.semantic.size(1024, 1024) == (24, 24)
    assert facts.texts is not None
    assert (facts.texts.tokens, facts.texts.width, facts.texts.pooled) == (77, 1280, 0)
    assert abs(bytes_each(sdxl) - bytes_each(semantic) - 2 * (4 * 128 * 128 - 16 * 24 * 24)) < BLOCK
    assert abs(bytes_each(both) - bytes_each(semantic) - 2 * 77 * 1280) < BLOCK
    assert rate(both, 1) > 0
