"""What an ablation tells of its corpora: how much there is, how large and how long; and that no prompt is in them."""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from curation.ablate.measure import thumbnails
from curation.errors import ConfigError
from curation.evaluate.embed import embed_all
from curation.fragments import Fragment, read_manifest
from curation.models import located
from curation.pack.captions import caption_column
from curation.pack.index import INDEX
from curation.row import Outcome
from curation.storage import Folder
from curation.stream.sample import EMPTY, PRIMARY
from curation.train.trained import TokenizerPlace

COUNTED = 2000
"""Captions of each kind whose tokens are counted."""
TRAINING = 20_000
"""Training pictures at most with which generated ones are compared."""


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """A packed corpus in numbers; means are over its samples."""

    samples: int
    bytes: int
    resolution: float
    """Mean of √(width · height) as packed, pixels: the side of a square of as many."""
    original: float
    """The same before pack."""
    words: Mapping[str, float]
    """Mean words of a caption, by kind; `primary` is one of them."""


def corpus_facts(packed: str) -> CorpusFacts:
    """Of the packed corpus at `packed`."""
    folder = Folder(packed)
    manifest = read_manifest(folder)
    assert manifest is not None, f"{packed} is no finished corpus"
    names = ["width", "height", "original_width", "original_height", "captions"]
    table = folder.read_table(INDEX, names)
    captions = table["captions"].combine_chunks().flatten()
    words: dict[str, float] = {}
    for kind in dict.fromkeys(captions.field("kind").to_pylist()):
        mine = captions.filter(pc.equal(captions.field("kind"), kind))
        words[kind] = float(pc.mean(mine.field("words")).as_py())
    corpus = manifest.extra["corpus"]
    primary = next(iter(words), None)
    return CorpusFacts(
        samples=table.num_rows,
        bytes=sum(shard["bytes"] for shard in corpus["shards"]),
        resolution=_mean_side(table["width"], table["height"]),
        original=_mean_side(table["original_width"], table["original_height"]),
        words={**words, **({PRIMARY: words[primary]} if primary else {})},
    )


def _mean_side(width: pa.ChunkedArray, height: pa.ChunkedArray) -> float:
    pixels = pc.multiply(width.cast("int64"), height.cast("int64"))
    return float(np.sqrt(pixels.to_numpy()).mean())


def caption_tokens(packed: str, captions: Mapping[str, float], tokenizer: TokenizerPlace) -> float | None:
    """Mean tokens of a caption as a training draws them, without start and end; of the first 2,000 samples.

    `captions`: kinds and weights, `empty` among them. None where the tokenizer is not there: the number is told, and
    nothing depends on it.
    """
    from transformers import CLIPTokenizer

    try:
        counts = CLIPTokenizer.from_pretrained(
            located(tokenizer.model), subfolder=tokenizer.subfolder, revision=tokenizer.revision
        )
    except (OSError, ValueError):
        return None
    total, weights = 0.0, 0.0
    for kind, weight in captions.items():
        texts = [] if kind == EMPTY or not weight else _texts(packed, kind)
        ids = counts(texts, truncation=True)["input_ids"] if texts else []  # what is longer, no training reads
        total += weight * (float(np.mean([len(one) - 2 for one in ids])) if ids else 0.0)
        weights += weight
    return total / weights


def check_unseen(packed: str, prompts: Collection[str]) -> None:
    """Refuse prompts that are captions of the corpus, of any kind, but for case and spaces. Raises ConfigError."""
    asked = {_plain(prompt) for prompt in prompts}
    folder = Folder(packed)
    for fragment in _fragments(folder):
        names = [n for n in folder.read_schema(fragment.name).names if n == "alt_text" or n.startswith("caption_")]
        table = folder.read_table(fragment.name, names)
        for name in names:
            for text in table[name].to_pylist():
                if isinstance(text, str) and _plain(text) in asked:
                    raise ConfigError(
                        "evaluation.prompts", f"{text!r} is a caption of {packed}, which students learn from"
                    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@functools.cache
def training_thumbnails(packed: str) -> npt.NDArray[np.float32]:
    """`thumbnails` of the corpus's pictures, [N, D]; of the first 20,000."""
    features: npt.NDArray[np.float32] = embed_all(thumbnails, islice(_pictures(packed), TRAINING)).astype(np.float32)
    return features


def _pictures(packed: str) -> Iterator[Image.Image]:
    for path in sorted(Path(packed).glob("shards/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith((".png", ".jpg", ".webp")):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield Image.open(io.BytesIO(file.read()))


def _texts(packed: str, kind: str) -> list[str]:
    """Of the first samples; an empty one is trained on like any other."""
    folder = Folder(packed)
    if kind == PRIMARY:
        manifest = read_manifest(folder)
        assert manifest is not None
        kind = manifest.extra["corpus"]["captions"][0]
    column = caption_column(kind)
    texts: list[str] = []
    for fragment in _fragments(folder):
        if len(texts) < COUNTED and column in folder.read_schema(fragment.name).names:
            rows = folder.read_table(fragment.name, [column, "outcome"])
            texts += [text or "" for text in rows.filter(pc.field("outcome") == Outcome.KEPT)[column].to_pylist()]
    return texts[:COUNTED]


def _fragments(folder: Folder) -> tuple[Fragment, ...]:
    manifest = read_manifest(folder)
    assert manifest is not None, f"{folder.url} is no finished corpus"
    return tuple(fragment for fragment in manifest.fragments if fragment.counts.kept)
