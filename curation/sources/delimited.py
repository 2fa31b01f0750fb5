"""CSV and TSV lists with a header line.

CSV follows RFC 4180: quoted fields may hold commas, doubled quotes and line ends. TSV has no quoting (IANA
text/tab-separated-values), as the large caption lists are written, so a lone quote in a caption swallows no lines; a
field that stands in quotes as a whole is unwrapped all the same. A line that cannot be read (a quote that never closes,
more or fewer fields than the header) becomes a row of its own, `invalid_url`, with file and line in `detail`; the lines
after it are read as usual. Empty lines are no rows; an empty field is null.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Generator, Iterator, Sequence

from curation.config import SourceSettings
from curation.errors import SourceError
from curation.sources.columns import check_columns, columns_in, mapped, wanted_with_where
from curation.sources.files import SourceFile, find_files
from curation.sources.query import Query
from curation.sources.scratch import Scratch
from curation.sources.staged import Staged
from curation.sources.text import LINE_LIMIT, read_lines, spoilt
from curation.text import without_secrets

Record = tuple[int, list[str] | str]
"""Line number at which a record starts, and its fields, or what is wrong with it."""

_TOO_LONG = f"longer than {LINE_LIMIT} bytes"


def open_delimited(settings: SourceSettings, setting: str, scratch: Scratch) -> Query:
    """The list. Raises ConfigError for a wrong setting, SourceError for a file that cannot be read."""
    files = find_files(settings.path, settings.kind, setting)
    records = csv_records if settings.kind == "csv" else tsv_records
    names = columns_in(settings.where, scratch, setting)
    headers = {file.name: _header(file, records(file)) for file in files}
    there = list(dict.fromkeys(name for header in headers.values() for name in header))
    for file in files:
        if headers[file.name]:
            check_columns(settings.columns, headers[file.name], setting, file=file.name if len(files) > 1 else "")
    if not there:
        raise SourceError(f"source {settings.name} ({without_secrets(settings.path)}): no rows")
    columns = wanted_with_where(settings.columns, set(there) if names is None else names, there)
    staged = Staged(scratch, columns)
    limit = settings.limit if settings.where is None and settings.limit is not None else -1
    for file in files:
        header = headers[file.name]
        if header and limit != 0:
            limit -= _stage(staged, file, records(file), header, columns, settings.columns.url, limit)
    typed = set(columns) - set(mapped(settings.columns).values())
    return Query(scratch, staged.finish_text(sorted(typed)), settings, setting, own=staged.own())


def _header(file: SourceFile, records: Generator[Record, None, None]) -> list[str]:
    """Column names; empty for an empty file. Of names that stand twice the first counts."""
    for number, fields in records:
        records.close()
        if isinstance(fields, str):
            raise SourceError(f"{file.url}: line {number}, the header: {fields}")
        return [name.strip() for name in fields]
    return []


def _stage(
    staged: Staged,
    file: SourceFile,
    records: Iterator[Record],
    header: Sequence[str],
    columns: Sequence[str],
    url_column: str,
    limit: int,
) -> int:
    """Stage at most `limit` rows (negative: all); returns how many."""
    width = len(header)
    index = [header.index(name) if name in header else None for name in columns]
    url_index = header.index(url_column)
    count = 0
    next(records)
    for number, fields in records:
        if count == limit:
            break
        count += 1
        place = f"{file.name}:{number}"
        if isinstance(fields, str):
            staged.add_fault(place, fields)
        elif len(fields) != width and (len(fields) < width or any(fields[width:])):
            staged.add_fault(place, f"{len(fields)} fields, the header has {width}: {_excerpt(fields)}")
        elif spoilt(fields[url_index]):
            staged.add_fault(place, f"the URL holds bytes that are no UTF-8: {_excerpt(fields)}")
        else:
            staged.add(tuple([(fields[i] or None) if i is not None else None for i in index]), place)
    return count


def _excerpt(fields: list[str]) -> str:
    return repr(" | ".join(fields)[:160])


def tsv_records(file: SourceFile) -> Generator[Record, None, None]:
    for number, line in read_lines(file):
        if line is None:
            yield number, _TOO_LONG
        elif line := line.rstrip("\r\n"):
            yield number, [_unwrap(f) if f[:1] == '"' else f for f in line.split("\t")]


def _unwrap(field: str) -> str:
    """A field without the quotes around it and the doubling within; what is not wholly in quotes stays as it is."""
    inner = field[1:-1]
    if len(field) < 2 or field[-1] != '"' or '"' in inner.replace('""', ""):
        return field
    return inner.replace('""', '"')


class _LineTooLong(Exception):
    """A line over the limit turned up while a record was read."""


def csv_records(file: SourceFile) -> Generator[Record, None, None]:
    """Records of a CSV file. Strict over several lines, so that a stray quote cannot swallow good lines unnoticed;
    lenient within one line, where nothing else can be lost."""
    lines = read_lines(file)
    again: deque[tuple[int, str | None]] = deque()
    taken: list[tuple[int, str | None]] = []

    def feed() -> Iterator[str]:
        while (item := again.popleft() if again else next(lines, None)) is not None:
            taken.append(item)
            if item[1] is None:
                raise _LineTooLong
            yield item[1]

    reader = csv.reader(feed(), strict=True)
    while True:
        taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _LineTooLong) as error:
            (number, line), *rest = taken
            again.extendleft(reversed(rest))
            reader = csv.reader(feed(), strict=True)
            yield number, _TOO_LONG if line is None else _lenient(line, str(error))
        else:
            if fields:
                yield taken[0][0], fields


def _lenient(line: str, problem: str) -> list[str] | str:
    """A line that strict rules refuse, alone: its fields if every quote in it closes, else what is wrong with it."""
    mark = "\x1f"
    try:
        rows = list(csv.reader([line.rstrip("\r\n") + "\n", mark]))
    except csv.Error as error:
        return f"{error}: {line[:160]!r}"
    if len(rows) == 2 and rows[1] == [mark]:  # a field that is still open would have read on into the mark
        return rows[0]
    return f"a quote that never closes ({problem}): {line[:160]!r}"
