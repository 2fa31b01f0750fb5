"""Plain lists: a URL a line. Empty lines and lines that start with `#` are no rows."""

from __future__ import annotations

from curation.config import SourceSettings
from curation.sources.columns import check_columns
from curation.sources.files import find_files
from curation.sources.query import Query
from curation.sources.scratch import Scratch
from curation.sources.staged import Staged
from curation.sources.text import LINE_LIMIT, read_lines, spoilt


def open_txt(settings: SourceSettings, setting: str, scratch: Scratch) -> Query:
    """The list; its one column is called what `columns.url` says. Raises ConfigError, SourceError."""
    files = find_files(settings.path, settings.kind, setting)
    column = settings.columns.url
    check_columns(settings.columns, [column], setting)
    staged = Staged(scratch, [column])
    limit = settings.limit if settings.where is None and settings.limit is not None else -1
    for file in files:
        for number, line in read_lines(file):
            if limit == 0:
                break
            place = f"{file.name}:{number}"
            url = line.strip() if line is not None else None
            if url is not None and (not url or url.startswith("#")):
                continue
            limit -= 1
            if url is None:
                staged.add_fault(place, f"longer than {LINE_LIMIT} bytes")
            elif spoilt(url):
                staged.add_fault(place, f"the URL holds bytes that are no UTF-8: {url[:160]!r}")
            else:
                staged.add((url,), place)
    return Query(scratch, staged.finish_text([]), settings, setting, own=staged.own())
