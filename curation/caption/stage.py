"""The caption stage: an open vision-language model writes captions for the rows that select kept.

A worker of a `transformers` backend takes a batch at a time and reads the next one's pictures meanwhile; a worker of an
endpoint has as many rows in hand as it may have requests. Captions are the expensive part: a fragment is committed
for each `run.batch` finished rows. `curation.caption.writing` says what is asked for; `pipelines/curate.py` makes this
stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.bank import ImageBank
from curation.caption.backend import Backend
from curation.caption.clock import ShareClock
from curation.caption.pictures import Picture, Pictures
from curation.caption.prompts import FUSE, prompts_of
from curation.caption.similarity import Similarity
from curation.caption.tokens import TokenCounter
from curation.caption.writing import Draft, Writer
from curation.config import CaptionSettings
from curation.errors import ConfigError, CorruptionError
from curation.fingerprint import result_settings
from curation.model_signature import model_signature
from curation.models import is_local, limit_threads
from curation.row import CAPTION_FIELDS, KEPT, Reason, Verdict, with_outcomes
from curation.stage import Pool, RowStage, Stage, cores_each
from curation.storage import Folder

_SPEED_AND_PLACE = ("endpoint", "api_key_env", "token_limit", "model", "clip", "tokenizer", "prompts")
"""Settings that stand in the identity in another form, or not at all: endpoints move, the limit is only reported."""


class CaptionStage(RowStage):
    """Adds `caption_KIND`, its model, tokens and similarity, and what captioning took."""

    name = "caption"
    sums = ("captioning_tokens", "captioning_tries", "captioning_us")
    target_rows = 64
    """Small partitions: a row takes seconds."""

    def __init__(
        self, output: Folder, upstream: Stage, settings: CaptionSettings, bank: Folder, backend: Backend | None = None
    ) -> None:
        """`backend` in place of the one that the settings name. Raises ConfigError for settings that cannot work."""
        self.settings = settings
        self.bank = bank
        self.backend = backend or make_backend(settings)
        self.commit_rows = settings.run.batch
        self.counter = TokenCounter(settings.tokenizer)
        self.similarity = Similarity(settings.clip, settings.run.gpus) if settings.clip else None
        self.model_name = _name_of(settings)
        if settings.backend == "openai":
            self.in_flight = 2  # while one partition waits for its last answers, the other has work
        super().__init__(output, upstream, self._identity())

    def _identity(self) -> dict[str, Any]:
        settings = self.settings
        given = {k: v for k, v in result_settings(settings).items() if k not in _SPEED_AND_PLACE}
        for limits in ("max_tokens", "words"):
            given[limits] = {kind: given[limits][kind] for kind in settings.kinds}
        return {
            **given,
            "model": self.model_name,
            "files": model_signature("stages.caption.model", settings.model) if settings.backend != "openai" else None,
            "prompts": {kind: prompt.text for kind, prompt in prompts_of(settings).items()},
            "fuse": FUSE.text if settings.keep_names else None,
            "tokenizer": self.counter.identity(),
            "clip": self.similarity.identity() if self.similarity else None,
        }

    @property
    def added(self) -> list[pa.Field]:
        """Columns that it writes."""
        fields = []
        for kind in self.settings.kinds:
            fields += [
                pa.field(f"caption_{kind}", pa.string()),
                pa.field(f"caption_{kind}_model", pa.string()),
                pa.field(f"caption_{kind}_tokens", pa.int32()),
            ]
            if self.similarity is not None:
                fields.append(pa.field(f"caption_{kind}_similarity", pa.float32()))
        return [*fields, *CAPTION_FIELDS]

    @property
    def schema(self) -> pa.Schema:
        return self.input_schema(self.added)

    def check(self, schema: pa.Schema) -> None:
        """Refuse to write columns that are there already. Raises ConfigError."""
        clash = [field.name for field in self.added if field.name in schema.names]
        if clash:
            raise ConfigError(
                "stages.caption.kinds", f"rows have columns {', '.join(clash)} already; rename them in the list"
            )

    def check_models(self, online: bool) -> None:
        self.backend.check(online)
        self.counter.check(online)
        if self.similarity is not None:
            self.similarity.check(online)

    def pool(self, cpus: float, gpus: float) -> Pool:
        pool = Pool.for_models(self.settings.run, cpus, gpus)
        if self.settings.backend == "openai":  # each has a request at least, and all of them no more than was asked for
            return replace(pool, workers=min(pool.workers, self.settings.run.concurrency))
        return pool

    def setup(self, workers: int, here: int | None = None) -> None:
        threads = cores_each(here or workers)
        if self.settings.backend == "transformers" or self.similarity is not None:
            limit_threads(threads)
        self._rows_in_hand = max(1, self.settings.run.concurrency // workers)
        self.counter.setup()
        if self.similarity is not None:
            self.similarity.setup()
        self.backend.setup(workers)
        self._pictures = Pictures(ImageBank(self.bank), self.settings.max_side, threads)
        self._writer = Writer(self.settings, self.backend, self.similarity)
        self._clock = ShareClock()

    def finish_rows(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        return self._row_by_row(rows) if self.settings.backend == "openai" else self._batch_by_batch(rows)

    async def _batch_by_batch(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        size = self.settings.run.batch
        coming = self._pictures.start(rows.slice(0, size))
        for start in range(0, rows.num_rows, size):
            entered = self._clock.enter(batch := rows.slice(start, size))
            pictures = await self._pictures.load(coming)
            coming = self._pictures.start(rows.slice(start + size, size))
            # Nothing else is begun before this batch is handed over and committed.
            yield await self._caption(batch, pictures, entered)

    async def _row_by_row(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        running: set[asyncio.Task[pa.Table]] = set()
        try:
            start = 0
            while running or start < rows.num_rows:
                while start < rows.num_rows and len(running) < self._rows_in_hand:
                    running.add(asyncio.create_task(self._one(rows.slice(start, 1))))
                    start += 1
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                # What is finished is handed over before an error ends it all.
                for task in sorted(done, key=lambda task: task.exception() is not None):
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _one(self, row: pa.Table) -> pa.Table:
        entered = self._clock.enter(row)
        return await self._caption(row, await self._pictures.load(self._pictures.start(row)), entered)

    async def _caption(self, rows: pa.Table, pictures: Sequence[Picture], entered: float) -> pa.Table:
        """`rows` with captions and outcomes."""
        drafts: list[Draft | None] = []
        verdicts = []
        alt_texts = rows["alt_text"].to_pylist()
        for uid, alt_text, picture in zip(rows["uid"].to_pylist(), alt_texts, pictures, strict=True):
            damaged = isinstance(picture, CorruptionError)
            verdicts.append(Verdict(Reason.BANK_DAMAGED, str(picture)) if damaged else KEPT)
            drafts.append(None if isinstance(picture, CorruptionError) else Draft(uid, alt_text or "", picture))
        await self._writer.write([draft for draft in drafts if draft is not None])
        for i, draft in enumerate(drafts):
            if draft is not None and draft.verdict is not None:
                verdicts[i] = draft.verdict
        us = self._clock.leave(rows, entered)
        columns = self._columns(drafts, [verdict.reason is None for verdict in verdicts], alt_texts, us)
        for field in self.added:
            rows = rows.append_column(field, pa.array(columns[field.name], field.type))
        return with_outcomes(rows, verdicts)

    def _columns(
        self, drafts: Sequence[Draft | None], kept: Sequence[bool], alt_texts: Sequence[str | None], us: int
    ) -> dict[str, list[Any]]:
        """Values of the added columns. Only kept rows have captions; what captioning took, all have."""
        columns: dict[str, list[Any]] = {
            "alt_text_tokens": self._counted(alt_texts),
            "captioning_tries": [draft.tries if draft else 0 for draft in drafts],
            "captioning_tokens": [draft.tokens if draft else 0 for draft in drafts],
            "captioning_us": [us] * len(drafts),
            "captioning_fused": [draft.fused if draft else False for draft in drafts],
        }
        for kind in self.settings.kinds:
            pairs = [draft if keep else None for draft, keep in zip(drafts, kept, strict=True)]
            texts = [draft.texts[kind] if draft else None for draft in pairs]
            columns[f"caption_{kind}"] = texts
            columns[f"caption_{kind}_model"] = [None if text is None else self.model_name for text in texts]
            columns[f"caption_{kind}_tokens"] = self._counted(texts)
            if self.similarity is not None:
                columns[f"caption_{kind}_similarity"] = [draft.similarities[kind] if draft else None for draft in pairs]
        return columns

    def _counted(self, texts: Sequence[str | None]) -> list[int | None]:
        counts = iter(self.counter.count(text for text in texts if text is not None))
        return [None if text is None else next(counts) for text in texts]

    def close(self) -> None:
        self._pictures.close()
        self.backend.close()
        if self.similarity is not None:
            self.similarity.close()


def make_backend(settings: CaptionSettings) -> Backend:
    """The backend that the settings name, not yet set up."""
    if settings.backend == "openai":
        from curation.caption.with_openai import OpenAIBackend

        return OpenAIBackend(settings)
    from curation.caption.with_transformers import TransformersBackend

    return TransformersBackend(settings)


def _name_of(settings: CaptionSettings) -> str:
    """The model as captions name it: of a local folder its own name, for where it lies means nothing elsewhere."""
    local = settings.backend == "transformers" and is_local(settings.model)
    return Path(settings.model).expanduser().resolve().name if local else settings.model
