"""Header-first rejection: from the first bytes of a download, whether the rest is worth fetching.

Called by the fetch operators with the growing prefix of a body. How many bytes it takes: PNG, GIF, BMP and WebP at
most 33; a JPEG straight from an encoder 200 to 700; a JPEG with an EXIF thumbnail 5 to 70 KB, because the frame header
stands behind the metadata (with previews, XMP and large profiles some hundred KB); AVIF 300 to 1,000; a TIFF often
its whole file, because its directory may stand at the end.
"""

from __future__ import annotations

from curation.config import FetchSettings
from curation.image.header import WHOLE_FILE, Header, NeedMore, Probe, Unusable, read_header
from curation.image.rules import broken_rule
from curation.row import Reason, Verdict

__all__ = ["WHOLE_FILE", "Header", "NeedMore", "Probe", "Unusable", "check_header", "probe"]


def probe(prefix: bytes | bytearray) -> Probe:
    """What the first bytes of a file say: `Header`, `NeedMore` or `Unusable`. Never raises, whatever the bytes."""
    return read_header(prefix)


def check_header(found: Probe, settings: FetchSettings) -> Verdict | None:
    """The rejection that a header already justifies, or None: fetch on."""
    if isinstance(found, Header):
        broken = broken_rule(settings, found.format, found.width, found.height)
        return Verdict(Reason(broken[0]), broken[1]) if broken else None
    if isinstance(found, Unusable):
        return Verdict(Reason(found.reason), found.detail)
    if found.format is not None and found.format not in settings.formats:
        return Verdict(Reason.FORMAT_NOT_ALLOWED, found.format)
    return None
