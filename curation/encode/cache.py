"""What a corpus says of the tensors that it holds; trainers compare it with their models before they lean on it.

facts = cached_of(open_corpus("runs/demo/encode-…"))
if facts is not None:
    check_signatures(facts, part_signatures("recipe.teacher.model", teacher.model), "recipe.teacher.model")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from curation.encode.signatures import SEMANTIC, VAE
from curation.errors import ConfigError
from curation.stream.corpus import Corpus
from curation.wuerstchen.sizes import semantic_size

EMPTY_FILE = "empty.safetensors"
"""Beside the shards: `text` [T, D] and `pooled` [P] of no caption."""
DTYPES = ("fp16", "bf16")


@dataclass(frozen=True)
class TextFacts:
    """Stored embeddings of captions."""

    kinds: tuple[str, ...]
    """Kinds of caption that have some."""
    primary: str
    """Which kind stands in `UID.txt`."""
    tokens: int
    """T of a text's embeddings [T, D]."""
    width: int
    """D."""
    pooled: int
    """P of its pooled embedding [P]; 0: there is none."""
    empty_sha256: str
    """Of the file that holds those of no caption."""

    def kind(self, caption: str) -> str:
        """The kind that a stream's kind of caption means: `primary` stands for another."""
        return self.primary if caption == "primary" else caption


@dataclass(frozen=True)
class SemanticFacts:
    """Stored semantic latents."""

    channels: int
    shrink: float
    """Their compressor sees a picture at this size …"""
    strides: tuple[int, ...]
    """… and these shrink it further."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the latents of a picture of these sides, pixels."""
        return semantic_size(height, width, self.shrink, self.strides)


@dataclass(frozen=True)
class CacheFacts:
    """What each sample of a corpus holds, and of which models."""

    signatures: Mapping[str, Any]
    """By part (`vae`, `text_encoder`, …), as `part_signatures` gives them."""
    dtype: str
    """ "fp16" or "bf16", of all tensors."""
    resolution: int | None
    """What pictures were scaled to before they were encoded (as `Decoder.resolution`)."""
    upscale: bool
    """Whether smaller ones were enlarged to that (as `Decoder.upscale`)."""
    images: bool
    """Whether pictures are there too."""
    channels: int | None
    """Of latents; None: there are none."""
    factor: int
    """Pixels a side of one latent; 0 without latents."""
    semantic: SemanticFacts | None
    """None: no semantic latents."""
    texts: TextFacts | None
    """None: no embeddings."""

    @property
    def pictures(self) -> bool:
        """Whether the stream decodes pictures: not where latents stand for them."""
        return self.images and self.channels is None


def cached_of(corpus: Corpus, setting: str = "corpus") -> CacheFacts | None:
    """What the stage `encode` stored in `corpus`; None: nothing, it is a corpus of pictures.

    Raises ConfigError naming `setting` where the manifest does not say it as that stage would.
    """
    if corpus.encoded is None:
        return None
    given: Any = corpus.encoded
    try:
        facts = CacheFacts(
            signatures={str(part): value for part, value in given["signatures"].items()},
            dtype=given["dtype"],
            resolution=None if given["resolution"] is None else int(given["resolution"]),
            upscale=bool(given.get("upscale", False)),
            images=bool(given["images"]),
            channels=None if given["latents"] is None else _positive(given["latents"]["channels"]),
            factor=0 if given["latents"] is None else _positive(given["latents"]["factor"]),
            semantic=None if given.get("semantic") is None else _semantic(given["semantic"]),
            texts=None if given["texts"] is None else _texts(given["texts"]),
        )
        if facts.dtype not in DTYPES:
            raise ValueError(f"dtype {facts.dtype!r}")
        if not facts.images and facts.channels is None and facts.semantic is None:
            raise ValueError("neither pictures nor latents")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        where = corpus.folder.url
        raise ConfigError(setting, f"the manifest of {where} does not tell what is encoded: {error}") from None
    return facts


def cache_of_all(corpora: Sequence[Corpus]) -> CacheFacts | None:
    """The same of the corpora of one stream; of texts the kinds that all of them have. Raises ConfigError where they do
    not hold the same of the same models."""
    found = [cached_of(corpus, f"corpora.{i}") for i, corpus in enumerate(corpora)]
    first = found[0]
    for i, facts in enumerate(found):
        if (facts is None) != (first is None):
            told = "is of pictures" if facts is None else "is encoded"
            raise ConfigError(f"corpora.{i}", f"{told}, which {corpora[0].folder.url} is not")
        if facts is not None and first is not None and (differ := _differences(facts, first)):
            told = f"does not hold the same tensors of the same models as {corpora[0].folder.url}: "
            raise ConfigError(f"corpora.{i}", f"{told}other {', '.join(differ)}")
    if first is None or first.texts is None:
        return first
    texts = [facts.texts for facts in found if facts is not None and facts.texts is not None]
    kinds = tuple(kind for kind in first.texts.kinds if all(kind in one.kinds for one in texts))
    return replace(first, texts=replace(first.texts, kinds=kinds))


def _differences(one: CacheFacts, other: CacheFacts) -> list[str]:
    """What of two corpora stands in the way of one stream, by the names of its fields."""
    found = [f.name for f in fields(CacheFacts) if f.name != "texts" and getattr(one, f.name) != getattr(other, f.name)]
    return found if _shape(one.texts) == _shape(other.texts) else [*found, "texts"]


def _shape(texts: TextFacts | None) -> TextFacts | None:
    """Without what may differ: kinds, and the last bits of what stands for no caption, which a device decides."""
    return None if texts is None else replace(texts, kinds=(), empty_sha256="")


def check_signatures(facts: CacheFacts, signatures: Mapping[str, Any], setting: str) -> None:
    """Refuse stored tensors of other models than those with `signatures`: all that a training reads has its part there.
    A training without text encoders reads no embeddings. Raises ConfigError naming `setting`."""
    stored = {VAE: facts.channels is not None, SEMANTIC: facts.semantic is not None}
    there = {part for part, found in stored.items() if found and part in signatures}
    if not there and not facts.pictures:
        wanted = " nor ".join(_NAMES[part] for part in stored if part in signatures)
        raise ConfigError(setting, f"the corpus has no pixels to give, and no {wanted} instead")
    texts = [part for part in signatures if part not in stored]
    if facts.texts and texts:
        there |= {part for part in (*texts, *facts.signatures) if part not in stored}
    differ = sorted(part for part in there if facts.signatures.get(part) != signatures.get(part))
    if differ:
        raise ConfigError(
            setting, f"the corpus was encoded by other models: {', '.join(differ)}; encode it again, or train on pixels"
        )


_NAMES = {VAE: "latents", SEMANTIC: "semantic latents"}


def _semantic(given: Any) -> SemanticFacts:
    shrink, strides = given["shrink"], tuple(_positive(stride) for stride in given["strides"])
    if not isinstance(shrink, int | float) or not 0 < shrink <= 1:
        raise ValueError(f"pictures are shrunk by {shrink!r}")
    return SemanticFacts(channels=_positive(given["channels"]), shrink=float(shrink), strides=strides)


def _texts(given: Any) -> TextFacts:
    kinds = tuple(str(kind) for kind in given["kinds"])
    if not kinds:
        raise ValueError("texts of no kind")
    return TextFacts(
        kinds=kinds,
        primary=str(given["primary"]),
        tokens=_positive(given["tokens"]),
        width=_positive(given["width"]),
        pooled=_positive(given["pooled"]) if given["pooled"] else 0,
        empty_sha256=str(given["empty"]["sha256"]),
    )


def _positive(number: Any) -> int:
    if not isinstance(number, int) or not 0 < number < 2**20:
        raise ValueError(f"{number!r} is no size of a tensor")
    return number
