"""Which rows the report shows, and their thumbnails: some kept ones, and some that each rule dropped.

The choice is a keyed hash of the uid, so it is the same whenever the same run is reported, and fair: no order of the
list, of hosts or of finishing shows through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from curation.bank import ImageBank
from curation.errors import CorruptionError
from curation.report.facts import RejectedSamples, Sample, StageFacts
from curation.report.shards import Shards
from curation.report.tables import StageTable, Tables, quoted
from curation.report.thumbnail import thumbnail
from curation.row import RESERVED, UID_PATTERN

KEPT_SAMPLES = 24
PER_REASON = 6
SHOWN_COLUMNS = 4

_GIVEN = "(SELECT unnest(?::VARCHAR[]))"
_UID_IN_TEXT = re.compile(rf"\b{UID_PATTERN.pattern}\b")
_PLACE = ("tar", "offset", "length", "sha256")
_NEEDED = ("url", "alt_text", "license", "width", "height", "sharpness", "bucket", *_PLACE)


class Sampler:
    """Chooses rows and reads their pixels from the image bank or the shards."""

    def __init__(self, tables: Tables, stages: Sequence[StageTable], seed: int) -> None:
        self._tables = tables
        self._stages = [stage for stage in stages if stage.columns]
        self._order = f"md5(concat('{seed}/', uid))"
        fetch = next((stage for stage in stages if stage.name == "fetch"), None)
        self._bank = ImageBank(fetch.folder) if fetch else None

    def kept(self, last: StageTable, shards: Shards | None) -> tuple[Sample, ...]:
        """Some of the rows that the last stage kept; pictures and captions from the shards if they are there."""
        rows = self._tables.query(
            f"SELECT uid FROM {last.view} WHERE outcome = 'kept' ORDER BY {self._order}, uid LIMIT {KEPT_SAMPLES}"
        )
        uids = [uid for (uid,) in rows]
        known = self._look_up(uids)
        packed = shards.read(uids) if shards else {}
        samples = []
        for uid in uids:
            row = known.get(uid, {})
            sample = packed.get(uid)
            picture = sample.image if sample and sample.image else self._stored(row)
            samples.append(_sample(uid, row, "", picture, caption=sample.caption if sample else None))
        return tuple(samples)

    def rejected(self, table: StageTable, facts: StageFacts) -> tuple[RejectedSamples, ...]:
        """For each reason of a stage, most frequent first, a few of the rows that it dropped."""
        if not facts.reasons:
            return ()
        chosen: dict[str, list[str]] = dict(
            self._tables.query(
                f"SELECT reason, arg_min(uid, {self._order}, {PER_REASON}) FROM {table.view} "
                "WHERE outcome <> 'kept' GROUP BY reason"
            )
        )
        uids = [uid for group in chosen.values() for uid in group]
        details = dict(
            self._tables.query(
                f"SELECT uid, detail FROM {table.view} WHERE outcome <> 'kept' AND uid IN {_GIVEN}",
                [uids],
            )
        )
        known = self._look_up(uids, upto=table)
        twins = {uid: twin for uid in uids if (twin := _twin(uid, details.get(uid)))}
        known_twins = self._look_up(sorted(set(twins.values())), upto=table)
        groups = []
        for reason in facts.reasons:
            samples = []
            for uid in chosen.get(reason.reason, ()):
                row = known.get(uid, {})
                twin = twins.get(uid)
                samples.append(
                    _sample(
                        uid,
                        row,
                        details.get(uid) or "",
                        self._stored(row),
                        twin=twin,
                        twin_picture=self._stored(known_twins.get(twin, {})) if twin else None,
                    )
                )
            groups.append(RejectedSamples(facts.name, reason.reason, reason.outcome, reason.count, tuple(samples)))
        return tuple(groups)

    def _look_up(self, uids: Iterable[str], upto: StageTable | None = None) -> dict[str, dict[str, Any]]:
        """All that the stages know of some rows; later stages win. `upto`: the last stage to ask."""
        wanted = list(uids)
        found: dict[str, dict[str, Any]] = {}
        if not wanted:
            return found
        for stage in self._stages:
            columns = [name for name in (*_NEEDED, *self._user_columns(stage)) if name in stage.columns]
            names = ", ".join(quoted(name) for name in columns)
            rows = self._tables.query(
                f"SELECT uid{', ' if names else ''}{names} FROM {stage.view} WHERE uid IN {_GIVEN}",
                [wanted],
            )
            for uid, *values in rows:
                known = {name: value for name, value in zip(columns, values, strict=True) if value is not None}
                found.setdefault(uid, {}).update(known)
            if stage is upto:
                break
        return found

    def _user_columns(self, stage: StageTable) -> list[str]:
        return [name for name in self._tables.numeric_columns(stage) if name not in RESERVED][:SHOWN_COLUMNS]

    def _stored(self, row: dict[str, Any]) -> bytes | None:
        """The row's bytes in the image bank; None where it has none, or where they are gone or damaged."""
        if self._bank is None or not row.keys() >= set(_PLACE):
            return None
        try:
            return self._bank.read(*(row[name] for name in _PLACE))
        except CorruptionError:
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
    extra = [(name, _value(value)) for name, value in row.items() if name == "sharpness" or name not in RESERVED]
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


def _twin(uid: str, detail: str | None) -> str | None:
    """The other row that a detail names, if it names one: duplicates say which row stays."""
    return next((other for other in _UID_IN_TEXT.findall(detail or "") if other != uid), None)


def _value(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
