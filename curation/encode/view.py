"""What the stream feeds of a corpus of tensors: `loader.py` calls a `CachedView` on each sample, and batches what it
gives. A sample whose tensors are not those that the manifest tells of is damaged, like one with a broken image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.config.stream import StreamSettings
from curation.encode.cache import CacheFacts, cache_of_all
from curation.encode.member import EXTENSION, Latents, Text, latents_of, read_empty, read_tensors, text_of, torch_dtype
from curation.errors import ConfigError, CorruptionError
from curation.stream.corpus import Corpus
from curation.stream.decode import Decoder, Picture
from curation.stream.sample import EMPTY, Sample

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Encoded:
    """One sample's tensors."""

    place: Latents | Picture
    """Whose sizes are what SDXL is conditioned on: the picture where it is decoded."""
    latents: Latents | None
    texts: Mapping[str, Text]
    """By kind of caption."""


@dataclass(frozen=True)
class CachedView:
    """Takes a sample's tensors, and decodes its picture where that is wanted."""

    facts: CacheFacts
    empty: Text | None
    """What stands for no caption, where embeddings are stored."""
    kinds: tuple[str, ...]
    """Kinds of caption, as they are stored, that the stream may pick."""
    decoder: Decoder
    pictures: bool
    """Decode pictures too."""

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the pictures of a bucket, when they were encoded or as they are decoded."""
        return self.decoder.size(shape)

    def __call__(self, sample: Sample, shape: tuple[int, int]) -> Encoded:
        """The tensors of `sample`. Raises CorruptionError."""
        facts, (width, height) = self.facts, self.size(shape)
        latents: Latents | None = None
        texts: dict[str, Text] = {}
        try:
            if EXTENSION not in sample.members:
                raise ValueError("it has none")
            found = read_tensors(sample.members[EXTENSION])
            if facts.channels is not None or facts.semantic is not None:
                latents = latents_of(found, facts, (height, width))
            if facts.texts is not None:
                texts = {kind: text_of(found, facts.texts, facts.dtype, kind) for kind in self.kinds}
        except ValueError as error:
            raise CorruptionError(f"the tensors of sample {sample.key} cannot be read: {error}") from None
        if latents is None or self.pictures:
            return Encoded(self.decoder(sample, shape), latents, texts)
        return Encoded(latents, latents, texts)

    def tensors(self, found: Sequence[Encoded], kinds: Sequence[str], shape: tuple[int, int]) -> dict[str, Tensor]:
        """`latents` and `semantic` [B, C, h, w], `text` [B, T, D] and `pooled` [B, P] of a batch, those that are there.

        `kinds`: of the captions that the seed picked.
        """
        import torch

        facts, (width, height) = self.facts, self.size(shape)
        made: dict[str, Any] = {}
        shapes: dict[str, tuple[int, int, int]] = {}
        if facts.channels is not None:
            shapes["latents"] = (facts.channels, height // facts.factor, width // facts.factor)
        if facts.semantic is not None:
            shapes["semantic"] = (facts.semantic.channels, *facts.semantic.size(height, width))
        for name, shape_of_one in shapes.items():
            made[name] = torch.empty((len(found), *shape_of_one), dtype=torch_dtype(facts.dtype))
            for place, one in zip(made[name], found, strict=True):
                assert one.latents is not None
                place.copy_(one.latents.named()[name])
        if facts.texts is not None:
            assert self.empty is not None
            given = [self._text(one, facts.texts.kind(kind)) for one, kind in zip(found, kinds, strict=True)]
            for name, like in self.empty.named().items():
                parts = [text.named()[name] for text in given]
                made[name] = torch.stack(parts) if parts else like.new_empty((0, *like.shape))
        return made

    def _text(self, one: Encoded, kind: str) -> Text:
        if kind == EMPTY:
            assert self.empty is not None
            return self.empty
        return one.texts[kind]


def cached_view(
    corpora: Sequence[Corpus], settings: StreamSettings, decoder: Decoder, pictures: bool = True
) -> CachedView | None:
    """The view of a stream's corpora, or None where they are of pictures. `pictures`: as in `CorpusLoader`.

    Raises ConfigError where the stream asks for what is not stored: kinds of caption, another resolution, crops.
    """
    facts = cache_of_all(corpora)
    if facts is None:
        return None
    empty: Text | None = None
    kinds: tuple[str, ...] = ()
    if (texts := facts.texts) is not None:
        wanted = {kind for kind, weight in settings.captions.items() if weight} - {EMPTY}
        if missing := sorted(kind for kind in wanted if texts.kind(kind) not in texts.kinds):
            there = ", ".join((*texts.kinds, EMPTY))
            raise ConfigError(f"captions.{missing[0]}", f"no embeddings of them are stored; there is {there}")
        kinds = tuple(sorted({texts.kind(kind) for kind in wanted}))
        empty = read_empty(corpora[0].folder, facts)
    if facts.channels is not None or facts.semantic is not None:
        if settings.tails == "merge":
            raise ConfigError("tails", "`merge` crops pictures of other shapes, which stored latents cannot be")
        stored = Decoder(facts.resolution, facts.upscale)
        shapes = {size for corpus in corpora for size in corpus.buckets}
        if decoder.resolution is not None and any(stored.size(shape) != decoder.size(shape) for shape in shapes):
            of = "as they were packed" if facts.resolution is None else f"at {facts.resolution}"
            raise ConfigError("resolution", f"is {decoder.resolution}, and the stored latents are of pictures {of}")
        decoder = stored
    return CachedView(facts, empty, kinds, decoder, facts.pictures and (pictures or facts.semantic is None))
