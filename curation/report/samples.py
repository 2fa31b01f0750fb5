"""Which rows the report shows, and their thumbnails: some kept ones, and some that each rule dropped.

The choice is a keyed hash of the uid, so it is the same whenever the same run is reported, and fair: no order of the
list, of hosts or of finishing shows through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from curation.bank import ImageBank
from curation.caption.writing import IT_WROTE
from curation.errors import CorruptionError, StorageError
from curation.names import UID_PATTERN
from curation.pack.captions import caption_column
from curation.report.captioning import kinds_of
from curation.report.facts import RejectedSamples, Sample, StageFacts
from curation.report.model_facts import CaptionText
from curation.report.shards import Shards
from curation.report.tables import CAPTION_COLUMN, StageTable, Tables
from curation.report.thumbnail import thumbnail
from curation.row import RESERVED
from curation.sql import identifier

KEPT_SAMPLES = 24
CAPTIONED_SAMPLES = 10
PER_REASON = 6
SHOWN_COLUMNS = 6

_UID_IN_TEXT = re.compile(rf"\b{UID_PATTERN.pattern}\b")
_PLACE = ("tar", "offset", "length", "sha256")
_NEEDED = ("url", "alt_text", "alt_text_tokens", "license", "width", "height", "sharpness", "bucket", *_PLACE)


@dataclass(frozen=True)
class Samples:
    """Kept rows, rows that were dropped, by stage and reason, and captioned ones with all their texts."""

    kept: tuple[Sample, ...]
    rejected: tuple[RejectedSamples, ...]
    captioned: tuple[Sample, ...]


@dataclass(frozen=True)
class _Dropped:
    """A row that was chosen, as the stage that dropped it has it."""

    uid: str
    detail: str
    url: str


class Sampler:
    """Chooses rows and reads their pixels from the image bank or the shards."""

    def __init__(self, tables: Tables, stages: Sequence[StageTable], seed: int) -> None:
        self._tables = tables
        self._stages = [stage for stage in stages if stage.columns]
        self._order = f"md5(concat('{seed}/', uid))"
        fetch = next((stage for stage in stages if stage.name == "fetch"), None)
        self._bank = ImageBank(fetch.folder) if fetch else None

    def samples(self, facts: Sequence[StageFacts], shards: Shards | None) -> Samples:
        """Rows that the last stage kept, with picture and caption from the shards if they are there; and for each
        reason of each stage, most frequent first, rows that it dropped.

        Args:
            facts: of all stages.
            shards: the packed corpus.
        """
        kept = self._choose_kept(self._stages[-1], KEPT_SAMPLES) if self._stages else []
        caption = next((stage for stage in self._stages if stage.name == "caption"), None)
        captioned = self._choose_kept(caption, CAPTIONED_SAMPLES) if caption else []
        kinds = kinds_of(caption, {}) if caption else []
        dropped = {stage.name: self._choose_dropped(stage) for stage in self._stages}
        chosen = [row for groups in dropped.values() for rows in groups.values() for row in rows]
        twins = [twin for row in chosen if (twin := _twin(row))]
        known = self._look_up({*kept, *captioned, *(row.uid for row in chosen), *twins})
        packed = shards.read(kept) if shards else {}

        def kept_sample(uid: str) -> Sample:
            row, sample = known.get(uid, {}), packed.get(uid)
            picture = sample.image if sample and sample.image else self._stored(row)
            return _sample(uid, row, "", picture, caption=sample.caption if sample else None)

        def dropped_sample(stage: str, dropped: _Dropped) -> Sample:
            # A URL that comes twice has one uid, so what later stages know is of the row that stayed.
            row = {**({} if stage == "source" else known.get(dropped.uid, {})), "url": dropped.url}
            twin = _twin(dropped)
            other = self._stored(known.get(twin, {})) if twin else None
            sample = _sample(dropped.uid, row, dropped.detail, self._stored(row), twin=twin, twin_picture=other)
            return _with_raw_text(sample) if stage == "caption" else sample

        def captioned_sample(uid: str) -> Sample:
            row = known.get(uid, {})
            return replace(_sample(uid, row, "", self._stored(row)), texts=_texts(row, kinds))

        groups = []
        for stage in facts:
            for reason in stage.reasons:
                rows = dropped[stage.name].get(reason.reason, [])
                samples = tuple(dropped_sample(stage.name, row) for row in rows)
                groups.append(RejectedSamples(stage.name, reason.reason, reason.outcome, reason.count, samples))
        return Samples(tuple(map(kept_sample, kept)), tuple(groups), tuple(map(captioned_sample, captioned)))

    def _choose_kept(self, stage: StageTable, most: int) -> list[str]:
        rows = self._tables.query(
            f"SELECT uid FROM {stage.view} WHERE outcome = 'kept' ORDER BY {self._order}, uid LIMIT {most}"
        )
        return [uid for (uid,) in rows]

    def _choose_dropped(self, stage: StageTable) -> dict[str, list[_Dropped]]:
        """Some rows, by reason."""
        texts = "detail := coalesce(detail, ''), url := coalesce(url, '')"
        groups = self._tables.query(
            f"SELECT reason, arg_min(struct_pack(uid := uid, {texts}), struct_pack(nth := {self._order}, {texts}), "
            f"{PER_REASON}) FROM {stage.view} WHERE outcome <> 'kept' GROUP BY reason"
        )
        return {reason: [_Dropped(**row) for row in rows] for reason, rows in groups}

    def _look_up(self, uids: set[str]) -> dict[str, dict[str, Any]]:
        """All that the stages from fetch on know of some rows; what a later one says wins."""
        found: dict[str, dict[str, Any]] = {}
        for stage in self._stages if uids else ():
            if stage.name == "source":
                continue
            texts = sorted(name for name in stage.columns if CAPTION_COLUMN.fullmatch(name))
            columns = [name for name in (*_NEEDED, *texts, *self._user_columns(stage)) if name in stage.columns]
            rows = self._tables.query(
                f"SELECT {', '.join(map(identifier, ['uid', *columns]))} FROM {stage.view} "
                "WHERE uid IN (SELECT unnest(?::VARCHAR[]))",
                [sorted(uids)],
            )
            for uid, *values in rows:
                known = {name: value for name, value in zip(columns, values, strict=True) if value is not None}
                found.setdefault(uid, {}).update(known)
        return found

    def _user_columns(self, stage: StageTable) -> list[str]:
        return self._tables.free_columns(stage)[:SHOWN_COLUMNS]

    def _stored(self, row: dict[str, Any]) -> bytes | None:
        """The row's bytes in the image bank; None where it has none, or where they are gone or damaged."""
        if self._bank is None or not row.keys() >= set(_PLACE):
            return None
        try:
            return self._bank.read(*(row[name] for name in _PLACE))
        except (CorruptionError, StorageError):
            return None  # the tile says that there is no picture; `curate fsck --deep` says why


def _sample(
    uid: str,
    row: dict[str, Any],
    detail: str,
    picture: bytes | None,
    *,
    caption: str | None = None,
    twin: str | None = None,
    twin_picture: bytes | None = None,
) -> Sample:
    url = row.get("url") or ""
    extra = [
        (name, _value(value))
        for name, value in row.items()
        if name == "sharpness" or not (name in RESERVED or CAPTION_COLUMN.fullmatch(name))
    ]
    if row.get("license"):
        extra.append(("licence", row["license"]))
    return Sample(
        uid=uid,
        url=url,
        host=_host(url),
        caption=caption if caption is not None else row.get("alt_text") or "",
        detail=detail,
        width=row.get("width"),
        height=row.get("height"),
        bucket=(row.get("bucket") or "").replace("x", "×"),
        columns=tuple(extra),
        thumbnail=thumbnail(picture) if picture else None,
        twin=twin,
        twin_thumbnail=thumbnail(twin_picture) if twin_picture else None,
    )


def _texts(row: dict[str, Any], kinds: Sequence[str]) -> tuple[CaptionText, ...]:
    """The row's captions, of all kinds that it has."""
    names = ((kind, caption_column(kind)) for kind in kinds)
    return tuple(
        CaptionText(kind, row[name], row.get(f"{name}_tokens"), row.get(f"{name}_similarity"))
        for kind, name in names
        if row.get(name)
    )


def _with_raw_text(sample: Sample) -> Sample:
    """A row whose caption was rejected: its detail holds what the model wrote, and of what kind it was to be."""
    why, wrote, raw = sample.detail.partition(IT_WROTE)
    kind, colon, why = why.partition(": ")
    return replace(sample, detail=why, texts=(CaptionText(kind, raw, None),)) if wrote and colon else sample


def _twin(row: _Dropped) -> str | None:
    """The other row that a detail names, if it names one: duplicates say which row stays."""
    return next((other for other in _UID_IN_TEXT.findall(row.detail) if other != row.uid), None)


def _value(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
