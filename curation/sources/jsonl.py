"""JSON-lines lists: an object a line.

A line that is no JSON object becomes a row of its own, `invalid_url`, with file and line in `detail`. Empty lines are
no rows. A column is a number where all its values are; lists and objects travel as JSON text.
"""

from __future__ import annotations

import json

from curation.config import SourceSettings
from curation.errors import ConfigError
from curation.sources.columns import check_columns, columns_in, wanted, wanted_with_where
from curation.sources.files import SourceFile, find_files
from curation.sources.query import Query
from curation.sources.scratch import Scratch
from curation.sources.staged import Staged
from curation.sources.text import LINE_LIMIT, read_lines, spoilt

CHECK_ROWS = 10_000
"""Objects after which the URL's column must have turned up: a misspelt name should not cost reading the whole list."""


def open_jsonl(settings: SourceSettings, setting: str, scratch: Scratch) -> Query:
    """The list. Raises ConfigError for a wrong setting, SourceError for a file that cannot be read."""
    files = find_files(settings.path, settings.kind, setting)
    staged = Staged(scratch, json_columns(settings, setting, scratch))
    keys: dict[str, None] = {}
    objects = 0
    limit = settings.limit if settings.where is None and settings.limit is not None else -1
    for file in files:
        for number, line in read_lines(file):
            if limit == 0:
                break
            if line is not None and not line.strip():
                continue
            limit -= 1
            record = _stage_line(staged, file, number, line, settings.columns.url)
            if record is not None and objects < CHECK_ROWS:
                objects += 1
                keys.update(dict.fromkeys(record))
                if objects == CHECK_ROWS and settings.columns.url not in keys:
                    check_columns(settings.columns, keys, setting)
    return query_json(staged, list(keys), settings, setting, scratch)


def json_columns(settings: SourceSettings, setting: str, scratch: Scratch) -> list[str]:
    """The keys to stage: objects differ in theirs, so they are taken as the config spells them."""
    names = columns_in(settings.where, scratch, setting)
    if names is None:
        raise ConfigError(f"{setting}.where", f"`*` cannot be used on {settings.kind}; name the columns")
    return wanted_with_where(settings.columns, names, None)


def query_json(staged: Staged, keys: list[str], settings: SourceSettings, setting: str, scratch: Scratch) -> Query:
    """The staged objects as a list; `keys`: some that were seen, for messages."""
    scan, seen = staged.finish_json(wanted(settings.columns))
    if keys:
        check_columns(settings.columns, list(dict.fromkeys([*seen, *keys])), setting)
    return Query(scratch, scan, settings, setting, own=staged.own())


def _stage_line(
    staged: Staged, file: SourceFile, number: int, line: str | None, url_column: str
) -> dict[str, object] | None:
    """Stage one line; returns its object if it is one."""
    place = f"{file.name}:{number}"
    if line is None:
        staged.add_fault(place, f"longer than {LINE_LIMIT} bytes")
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        staged.add_fault(place, f"no JSON ({error}): {line[:160]!r}")
        return None
    if not isinstance(record, dict):
        staged.add_fault(place, f"no JSON object: {line[:160]!r}")
        return None
    url = record.get(url_column)
    if isinstance(url, str) and spoilt(url):
        staged.add_fault(place, f"the URL holds bytes that are no UTF-8: {line[:160]!r}")
    else:
        try:
            staged.add(staged.json_values(record), place)
        except ValueError as error:
            staged.add_fault(place, f"{error}: {line[:160]!r}")
            return None
    return record
