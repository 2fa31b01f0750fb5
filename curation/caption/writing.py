"""Writing the captions of some rows: which texts are asked for, in what order, and what becomes of those that fail.

The dense caption first; names of the original one go into it (`keep_names`); then the shorter ones, from the image or
from the dense text. Every text passes `check` and, where `min_similarity` is set, CLIP. One that fails is written once
more, with another seed; then its row is rejected with the check's reason. The caption stage calls this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.caption.backend import Backend, Reply, Request
from curation.caption.checks import check
from curation.caption.names import candidate_names, holds_names
from curation.caption.prompts import FUSE, Prompt, prompts_of
from curation.caption.similarity import Similarity
from curation.config import CaptionSettings
from curation.row import Reason, Verdict
from curation.text import without_halves

RETRY_TEMPERATURE = 0.7
IT_WROTE = "; it wrote: "
"""In the detail of a rejected row: what is wrong stands before it, the model's own text behind it."""
_FUSE_TOKENS = 32
"""Tokens that a dense caption may grow by when names go into it."""


@dataclass
class Draft:
    """One row on its way: what it came with, and what was written for it."""

    uid: str
    alt_text: str
    image: Image.Image
    texts: dict[str, str] = field(default_factory=dict)
    """By kind; those that passed."""
    similarities: dict[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    """Set once the row is dropped."""
    tries: int = 1
    tokens: int = 0
    """Written by the model, all kinds and tries."""
    fused: bool = False
    embedding: npt.NDArray[np.float32] | None = None
    """CLIP's, of the image."""


@dataclass(frozen=True)
class _Text:
    """A text that was judged; `reason` None means that it passed."""

    text: str
    similarity: float | None = None
    reason: Reason | None = None
    detail: str = ""


class Writer:
    """Writes captions for drafts, in place."""

    def __init__(self, settings: CaptionSettings, backend: Backend, similarity: Similarity | None = None) -> None:
        """`similarity` is given where `min_similarity` is."""
        self._settings = settings
        self._backend = backend
        self._similarity = similarity
        prompts = prompts_of(settings)
        # Dense first, for others may come from it.
        self._prompts = dict(sorted(prompts.items(), key=lambda item: item[0] != "dense"))

    async def write(self, drafts: Sequence[Draft]) -> None:
        """Fill the drafts: all texts, or a verdict. Raises what the backend raises."""
        if self._similarity is not None and drafts:
            embeddings = await self._similarity.embed([draft.image for draft in drafts])
            for draft, embedding in zip(drafts, embeddings, strict=True):
                draft.embedding = embedding
        for kind, prompt in self._prompts.items():
            await self._write_kind(kind, prompt, [draft for draft in drafts if draft.verdict is None])
            if kind == "dense" and self._settings.keep_names:
                await self._fuse([draft for draft in drafts if draft.verdict is None])

    async def _write_kind(self, kind: str, prompt: Prompt, drafts: Sequence[Draft]) -> None:
        for attempt in (1, 2):
            requests = [self._request(draft, kind, prompt, attempt) for draft in drafts]
            replies = await self._ask(drafts, requests)
            failed = []
            for draft, reply, judged in zip(drafts, replies, await self._judge(kind, drafts, replies), strict=True):
                if reply.error is not None:
                    draft.verdict = Verdict(Reason.CAPTION_BACKEND, f"{kind}: {reply.error}")
                elif judged.reason is None:
                    self._keep(draft, kind, judged)
                elif attempt == 1:
                    draft.tries = 2
                    failed.append(draft)
                else:
                    wrote = f"{kind}: {judged.detail}{IT_WROTE}{without_halves(reply.text)}"
                    draft.verdict = Verdict(judged.reason, wrote)
            drafts = failed

    async def _fuse(self, drafts: Sequence[Draft]) -> None:
        """Names of the original caption into the dense one; what is no improvement leaves it as it was."""
        named = [(draft, candidate_names(draft.alt_text, draft.texts["dense"])) for draft in drafts]
        named = [(draft, names) for draft, names in named if names]
        asked = [draft for draft, _ in named]
        requests = [
            Request(
                uid=draft.uid,
                prompt=FUSE.fill(caption=draft.texts["dense"], names=", ".join(names)),
                image=None,
                max_tokens=self._settings.max_tokens["dense"] + _FUSE_TOKENS,
            )
            for draft, names in named
        ]
        replies = await self._ask(asked, requests)
        judgements = await self._judge("dense", asked, replies)
        for (draft, names), reply, judged in zip(named, replies, judgements, strict=True):
            good = reply.error is None and judged.reason is None
            if good and holds_names(judged.text, draft.texts["dense"], names):
                self._keep(draft, "dense", judged)
                draft.fused = True

    async def _ask(self, drafts: Sequence[Draft], requests: Sequence[Request]) -> Sequence[Reply]:
        replies = await self._backend.write(requests) if requests else []
        assert len(replies) == len(requests), f"{len(replies)} replies to {len(requests)} requests"
        for draft, reply in zip(drafts, replies, strict=True):
            draft.tokens += reply.tokens
        return replies

    def _request(self, draft: Draft, kind: str, prompt: Prompt, attempt: int) -> Request:
        return Request(
            uid=draft.uid,
            prompt=prompt.fill(caption=draft.texts["dense"]) if prompt.on_text else prompt.text,
            image=None if prompt.on_text else draft.image,
            max_tokens=self._settings.max_tokens[kind],  # type: ignore[index]
            seed=0 if attempt == 1 else retry_seed(self._settings.seed, draft.uid, kind),
            temperature=0.0 if attempt == 1 else RETRY_TEMPERATURE,
        )

    async def _judge(self, kind: str, drafts: Sequence[Draft], replies: Sequence[Reply]) -> list[_Text]:
        settings = self._settings
        judged = []
        for reply in replies:
            word_range = settings.words[kind]  # type: ignore[index]
            checked = check(reply.text, cut_off=reply.cut_off, word_range=word_range, scripts=settings.script or ())
            judged.append(_Text(checked.text, None, checked.reason, checked.detail))
        passed = [i for i, text in enumerate(judged) if text.reason is None and replies[i].error is None]
        if self._similarity is None or not passed:
            return judged
        embeddings = [embedding for i in passed if (embedding := drafts[i].embedding) is not None]
        cosines = await self._similarity.to_texts(embeddings, [judged[i].text for i in passed])
        assert settings.min_similarity is not None
        for i, cosine in zip(passed, cosines, strict=True):
            low = cosine < settings.min_similarity
            said = f"similarity {cosine:.3f} to the image, under {settings.min_similarity:g}" if low else ""
            judged[i] = _Text(judged[i].text, cosine, Reason.CAPTION_LOW_SIMILARITY if low else None, said)
        return judged

    def _keep(self, draft: Draft, kind: str, judged: _Text) -> None:
        draft.texts[kind] = judged.text
        if judged.similarity is not None:
            draft.similarities[kind] = judged.similarity


def retry_seed(seed: int, uid: str, kind: str) -> int:
    """The seed of a text's second try, 31 bits: a function of the row, not of the batch that it is in."""
    digest = hashlib.blake2b(f"{seed}\x00{uid}\x00{kind}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
