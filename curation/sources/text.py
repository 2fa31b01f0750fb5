"""Lines of a text file: plain or gzipped, UTF-8 with or without a byte order mark, none too long to hold.

Used by the readers of delimited, JSON-lines and plain lists.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator

from curation.errors import SourceError
from curation.sources.files import READ_ERRORS, SourceFile

LINE_LIMIT = 1 << 20
"""Bytes of the longest line that is taken for data. URLs end at 8 kB; a longer line is a file of another kind."""
HALVED = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: JSON can spell it, UTF-8 cannot."""


def read_lines(file: SourceFile) -> Iterator[tuple[int, str | None]]:
    """(number from 1, text with its line end) for each line; None for one over `LINE_LIMIT`.

    Bytes that are no UTF-8 become U+FFFD. Raises SourceError, naming file and line, where the file cannot be read on.
    """
    number = 0
    with file.open() as raw:
        try:
            stream = _decompressed(raw)
            start = stream.peek(4)[:4]
            if start.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise SourceError(f"{file.url} is UTF-16; convert it to UTF-8")
            if start.startswith(b"\xef\xbb\xbf"):
                stream.read(3)
            while line := stream.readline(LINE_LIMIT):
                number += 1
                if len(line) == LINE_LIMIT and not line.endswith(b"\n"):
                    _skip_line(stream)
                    yield number, None
                else:
                    yield number, line.decode("utf-8", "replace")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceError(f"{file.url}: the gzip stream breaks after line {number}: {error}") from error
        except READ_ERRORS as error:
            raise SourceError(f"{file.url}: after line {number}: {error}") from error


def spoilt(url: str) -> bool:
    """True for a URL with bytes that were no UTF-8, or with half a character: it is not the URL that was meant."""
    return not url.isascii() and ("\ufffd" in url or HALVED.search(url) is not None)


def _decompressed(raw: io.RawIOBase) -> io.BufferedReader:
    """Told by content: a `.gz` that a download tool has unpacked is still read."""
    stream: io.BufferedReader = io.BufferedReader(raw, 1 << 20)
    if stream.peek(2)[:2] == b"\x1f\x8b":
        stream = io.BufferedReader(gzip.GzipFile(fileobj=stream), 1 << 20)
    return stream


def _skip_line(stream: io.BufferedIOBase) -> None:
    while line := stream.readline(LINE_LIMIT):
        if line.endswith(b"\n"):
            return
