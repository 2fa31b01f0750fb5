"""WebDataset tars as a source that holds its images: a row a sample, with the image's place in its tar.

`KEY.json` (an object) gives the columns, `url` among them if it is there; `KEY.txt` gives the alt text, or else the
JSON's `caption`. The row is named by its URL if it has a valid one, else by shard and key (`__key__` is a column too).
A sample whose JSON is unreadable, or that has neither image nor URL, fails as `source_image_unreadable`, and so does a
row that stands for what is missing where a tar is cut or damaged; the samples around it are rows as usual.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from curation.config import SourceSettings
from curation.errors import SourceError
from curation.names import normalise_url
from curation.row import Reason
from curation.sources.files import SourceFile, find_files
from curation.sources.jsonl import json_columns, query_json
from curation.sources.query import Query
from curation.sources.scratch import Scratch
from curation.sources.staged import Staged
from curation.sources.tar_index import Damage, Member, Sample, samples, scan

TEXT_LIMIT = 1 << 20
"""Bytes of the largest `.json` or `.txt` member that is read."""
KEYS_SHOWN = 1000
"""Samples whose keys are named in an error about a missing column."""


class _BadMember(Exception):
    """A member's content is not what its name says."""


def open_webdataset(settings: SourceSettings, setting: str, scratch: Scratch) -> Query:
    """The samples. Raises ConfigError for a wrong setting, SourceError for a file that is no plain tar."""
    files = find_files(settings.path, settings.kind, setting)
    caption = settings.columns.alt_text or "txt"
    settings = settings.model_copy(update={"columns": settings.columns.model_copy(update={"alt_text": caption})})
    staged = Staged(scratch, json_columns(settings, setting, scratch), held=True)
    limit = settings.limit if settings.where is None and settings.limit is not None else -1
    keys = dict.fromkeys([settings.columns.url, caption, "__key__"])  # a set of images needs neither URL nor caption
    for file in files:
        with open_tar(file) as tar:
            for number, item in enumerate(samples(scan(tar, file.size))):
                if limit == 0:
                    break
                limit -= 1
                record = _stage(staged, tar, file, item, settings)
                if number < KEYS_SHOWN:
                    keys.update(dict.fromkeys(record))
    return query_json(staged, list(keys), settings, setting, scratch)


def open_tar(file: SourceFile) -> BinaryIO:
    """The tar, opened. Raises SourceError where its images cannot be read in place."""
    tar: BinaryIO = file.open()
    start = tar.read(262)
    if start[:2] == b"\x1f\x8b":
        tar.close()
        raise SourceError(f"{file.url} is compressed: unpack it, so that its images can be read where they are")
    if len(start) == 262 and any(start) and not start.endswith(b"ustar"):
        tar.close()
        raise SourceError(f"{file.url} is no tar")
    return tar


def _stage(
    staged: Staged, tar: BinaryIO, file: SourceFile, item: Sample | Damage, settings: SourceSettings
) -> dict[str, Any]:
    """Stage a sample, or the row that stands for damage; returns the sample's columns."""
    shard = file.name.removesuffix(".tar")
    if isinstance(item, Damage):
        held = (None, None, None, f"{shard}@{item.offset}")
        staged.add_fault(file.name, item.problem, Reason.SOURCE_IMAGE_UNREADABLE, held)
        return {}
    image = item.image
    place = (file.url, image.offset, image.size) if image is not None else (None, None, None)
    held = (*place, f"{shard}/{item.key}")
    try:
        record = _record(tar, item, settings)
        url = record.get(settings.columns.url)
        if image is None and not (isinstance(url, str) and normalise_url(url)):
            raise _BadMember(f"no image and no URL among its members: {', '.join(item.members)}")
        values = staged.json_values(record)
    except (_BadMember, ValueError) as error:
        staged.add_fault(f"{file.name}:{item.key}", str(error), Reason.SOURCE_IMAGE_UNREADABLE, held)
        return {}
    staged.add(values, f"{file.name}:{item.key}", held)
    return record


def _record(tar: BinaryIO, sample: Sample, settings: SourceSettings) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if "json" in sample.members:
        try:
            record = json.loads(_text(tar, sample.members["json"]))
        except (ValueError, RecursionError) as error:
            raise _BadMember(f"its JSON cannot be read ({error})") from None
        if not isinstance(record, dict):
            raise _BadMember("its JSON is no object")
    caption = settings.columns.alt_text
    assert caption is not None
    if record.get(caption) is None:
        record[caption] = _text(tar, sample.members["txt"]) if "txt" in sample.members else record.get("caption")
    record["__key__"] = sample.key
    return record


def _text(tar: BinaryIO, member: Member) -> str:
    if member.size > TEXT_LIMIT:
        raise _BadMember(f"{member.name} is larger than {TEXT_LIMIT} bytes")
    tar.seek(member.offset)
    return tar.read(member.size).decode("utf-8", "replace")
