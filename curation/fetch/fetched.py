"""One row on its way through fetch, and the table that finished rows make.

`http.py` books traffic in it, `crawl.py` decides with it, `operator.py` hands it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.image.decoder import Checked
from curation.image.probe import Header
from curation.image.protocol import COLUMNS
from curation.row import FETCH_FIELDS, IMAGE, Verdict, with_outcomes

if TYPE_CHECKING:
    from curation.fetch.batch import Batch

WRITES = tuple(f for f in FETCH_FIELDS if f.name not in ("tar", "offset", "length"))
"""What fetch finds out; the place in the image bank is known to the fragment writer alone."""


def storable(text: str) -> str:
    """`text` from the network, as a string column takes it: lone surrogates, which stand for raw bytes, replaced."""
    return text[:500] if text.isascii() else text[:500].encode("utf-8", "replace").decode("utf-8")


@dataclass(slots=True, eq=False)
class Traffic:
    """What requests brought."""

    final_url: str | None = None
    """Of the last request."""
    status: int | None = None
    """HTTP status of the last answer."""
    content_type: str | None = None
    bytes_received: int = 0
    """Body bytes, summed."""
    bytes_saved: int = 0
    """Body bytes that an early stop spared us, summed."""
    retry_after_s: float | None = None
    """What the last answer's Retry-After asked for."""
    hopeless: bool = False
    """The last fault is transient in principle, but trying again within this run is of no use."""
    memory: int = 0
    """Bytes taken from the budget for large bodies."""


@dataclass(slots=True, eq=False, kw_only=True)
class Fetched(Traffic):
    """A row's state: what was asked, what came back, what was decided."""

    batch: Batch
    index: int
    """Row number in the input table."""
    url: str | None
    expected_md5: str | None = None
    expected_sha256: str | None = None
    held: tuple[str, int | None, int | None] | None = None
    """Path, offset and length (bytes) of an image that the source already holds."""

    host: str = ""
    """Whose limits the next request counts against."""
    at: str = ""
    """Normalised URL of the next request."""
    seen: set[str] = field(default_factory=set)
    """URLs of this try, to notice a redirect loop."""
    spent_s: float = 0.0
    """Part of this try's deadline that is used up."""

    tries: int = 0
    elapsed_s: float = 0.0
    fault: Verdict | None = None
    """Of the last try that failed."""
    verdict: Verdict | None = None
    """The outcome, once there is one."""
    header: Header | None = None
    """What the first bytes said of the image."""
    checked: Checked | None = None
    """What the image check said."""

    @property
    def elapsed_ms(self) -> int:
        return round(self.elapsed_s * 1000)

    @property
    def stored(self) -> bytes | None:
        """Bytes for the image bank, of a kept row."""
        return self.checked.stored if self.checked is not None else None

    @property
    def stored_bytes(self) -> int:
        return len(self.stored or b"")

    def column(self, name: str) -> Any:
        """The row's value in a column of fetch."""
        value = getattr(self.checked, name) if self.checked is not None and name in COLUMNS else None
        if value is None and self.header is not None and name in ("format", *_SIDES):
            value = getattr(self.header, name)
        if name in _SIDES and value is not None and value > LONGEST_SIDE:
            return None
        return getattr(self, name) if name in _OWN else value


LONGEST_SIDE = 2**31 - 1
"""Pixels that a column can say; some formats' headers claim more, and the row's verdict says how many."""
_SIDES = ("width", "height")
_OWN = frozenset(["final_url", "status", "content_type", "bytes_received", "bytes_saved", "tries", "elapsed_ms"])


def finished_table(rows: pa.Table, finished: Sequence[Fetched]) -> pa.Table:
    """The rows of `rows` that `finished` names, with the columns of fetch, outcomes, and `image`."""
    table = rows.take(pa.array([f.index for f in finished], pa.int64()))
    for column in WRITES:
        values = [f.column(column.name) for f in finished]
        table = table.append_column(column, pa.array(values, column.type))
    table = table.append_column(IMAGE, pa.array([f.stored for f in finished], IMAGE.type))
    verdicts = []
    for f in finished:
        assert f.verdict is not None
        verdicts.append(f.verdict)
    return with_outcomes(table, verdicts)
