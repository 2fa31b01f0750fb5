"""The settings' rules that need no decoding, asked while a file is still on its way.

`crawl.py` and `with_img2dataset.py` use them.
"""

from __future__ import annotations

from multidict import CIMultiDictProxy

from curation.config import FetchSettings
from curation.fetch.answer import agent_token, find_opt_out
from curation.fetch.fetched import Fetched
from curation.image.probe import Header, NeedMore, Probe, check_header, probe
from curation.row import Reason, Verdict


class FileRules:
    """Rules about headers, the size of the file, and the size of the picture."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._opt_outs = frozenset(d.strip().lower() for d in settings.opt_out_headers)
        self._agent = agent_token(settings.user_agent)

    def opt_out(self, headers: CIMultiDictProxy[str]) -> Verdict | None:
        """Whether the answer's X-Robots-Tag says that the image must not be used."""
        if self._opt_outs and (tags := headers.getall("X-Robots-Tag", None)):
            directive = find_opt_out(tags, self._opt_outs, self._agent)
            if directive is not None:
                return Verdict(Reason.OPT_OUT, f"X-Robots-Tag: {directive}")
        return None

    def length(self, length: int) -> Verdict | None:
        """Judge the size of the file, in bytes. An empty one passes: that has a reason of its own."""
        if 0 < length < self._settings.min_bytes:
            return Verdict(Reason.TOO_FEW_BYTES, f"{length} bytes, at least {self._settings.min_bytes} are asked for")
        if length > self._settings.max_bytes:
            return Verdict(Reason.TOO_MANY_BYTES, f"{length} bytes, at most {self._settings.max_bytes} are allowed")
        return None

    def picture(self, found: Probe) -> Verdict | None:
        """Judge what a file's first bytes say."""
        return check_header(found, self._settings)


class ImageWatch:
    """Judges the answer to one row's request, and notes in the row what its header says; a `Watch` of `http.py`."""

    def __init__(self, rules: FileRules, row: Fetched) -> None:
        self._rules = rules
        self._row = row

    def head(self, headers: CIMultiDictProxy[str], length: int | None) -> Verdict | None:
        return self._rules.opt_out(headers) or (None if length is None else self._rules.length(length))

    def prefix(self, data: bytes) -> Verdict | int | None:
        found = probe(data)
        if isinstance(found, Header):
            self._row.header = found
        judged = self._rules.picture(found)
        return found.at_least if judged is None and isinstance(found, NeedMore) else judged

    def whole(self, data: bytes) -> Verdict | None:
        """Judge a whole file."""
        judged = self._rules.length(len(data)) or self.prefix(data)
        return judged if isinstance(judged, Verdict) else None
