"""What a decoder (`decoder.py`) and its disposable child (`child.py`) say to each other, in one place for both.

The parent must not load the libraries that decode, and the child must not load pyarrow or pydantic: this loads neither.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields

PIPE = 1 << 20
"""Bytes. What a pipe may hold for users without privileges (pipe(7)): most images go through in one write."""

REQUEST = struct.Struct("<Q")
"""Before a file: its length."""
ANSWER = struct.Struct("<IQ")
"""Before JSON and stored bytes: the lengths of both."""

EXIT_MEMORY = 77
"""Exit code of a child where an image did not fit into `Limits.memory`."""


@dataclass(slots=True, kw_only=True)
class ImageColumns:
    """What the check finds out about a picture; the names are those of columns in `curation.row.FETCH_FIELDS`.

    Of dropped images `format`, `width` and `height` are there where the header told them.
    """

    format: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    source_sha256: str | None = None
    pixel_sha256: str | None = None
    phash: int | None = None
    sharpness: float | None = None
    stored_format: str | None = None
    stored_as_is: bool | None = None
    sha256: str | None = None


COLUMNS = tuple(field.name for field in fields(ImageColumns))
