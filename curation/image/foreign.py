"""Names for files that are none of the formats that may be decoded, so that a rejection can say what came instead.

Called by `header` with at least 32 bytes of a file.
"""

from __future__ import annotations

import re

Buffer = bytes | bytearray

_IMAGES = (
    (0, b"8BPS", "psd"),
    (0, b"\0\0\1\0", "ico"),
    (0, b"\0\0\2\0", "cur"),
    (0, b"\0\0\0\x0cjP  ", "jp2"),
    (0, b"\xff\x4f\xff\x51", "jp2"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL ", "jxl"),
    (0, b"%PDF-", "pdf"),
    (0, b"%!PS", "eps"),
    (0, b"\xc5\xd0\xd3\xc6", "eps"),
    (0, b"DDS ", "dds"),
    (0, b"v/1\x01", "exr"),
    (0, b"#?RADIANCE", "hdr"),
    (0, b"qoif", "qoi"),
    (0, b"icns", "icns"),
    (0, b"II\xbc\x01", "jxr"),
    (0, b"BPG\xfb", "bpg"),
    (0, b"FLIF", "flif"),
    (0, b"AT&TFORM", "djvu"),
    (0, b"\xd7\xcd\xc6\x9a", "wmf"),
    (0, b"/* XPM", "xpm"),
)
_OTHERS = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\3\4", "zip"),
    (0, b"\x1a\x45\xdf\xa3", "matroska video"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (0, b"\x7fELF", "elf"),
)
_HEIF = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
_PNM = re.compile(rb"P[1-7f]\s")
_SVG = re.compile(rb"<(?:\w+:)?svg[\s>]", re.IGNORECASE)
_HTML = re.compile(rb"<(?:!doctype html|html|head|body|title|script|meta)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def name_of(data: Buffer) -> tuple[str, bool]:
    """(name, whether it is a picture format) for a file that starts with `data`."""
    for table, is_image in ((_IMAGES, True), (_OTHERS, False)):
        for at, magic, name in table:
            if data[at : at + len(magic)] == magic:
                return name, is_image
    if _PNM.match(data):
        return "pnm", True
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] == b"<":
        if _HTML.match(start):
            return "html", False
        return ("svg", True) if _SVG.search(start) else ("xml", False)
    if start[:1] in (b"{", b"["):
        return "json", False
    return ("binary data" if _CONTROL.search(start) else "text"), False


def iso_media_name(brands: set[bytes]) -> tuple[str, bool]:
    """(name, whether it is a picture format) for an ISO media file that has none of AVIF's brands."""
    if brands & _HEIF:
        return "heic", True
    if b"crx " in brands:
        return "cr3", True
    return "iso media file (video)", False
