"""What a model wrote as one line of plain text, and that line as sentences and words; for `checks.py` and `names.py`.

Models write Markdown, quotation marks around everything, line breaks, labels and control characters. A caption is one
line without any of them.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_QUOTES = str.maketrans("“”„‟«»‘’‚‛`´", "\"\"\"\"\"\"''''''")
_FENCE = re.compile(r"^[ \t]*(```|~~~)\w*[ \t]*$", re.M)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+\S.*$", re.M)
_RULE = re.compile(r"^[ \t]*([-*_=][ \t]*){3,}$", re.M)
_BULLET = re.compile(r"^\s*(?:[-*•+–]|\d{1,2}[.)])\s+")
_LINK = re.compile(r"!?\[([^\]\n]{1,200})\]\([^)\s]{1,2000}\)")
_STRONG = re.compile(r"(?<!\w)(\*{1,3}|_{2,3})(?=\S)(.{1,500}?)(?<=\S)\1(?!\w)")
_LINES = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")
_UNWANTED = ("Cc", "Cs", "Co", "Cn")
_JOINERS = "\u200c\u200d"
"""Format characters that Persian, Indic scripts and emoji need."""


def tidy(text: str) -> str:
    """`text` as one line: NFC, straight quotes, no Markdown, no quotation marks around the whole, single spaces.

    The items of a list are joined by commas where they end without a stop; headings are dropped where more follows.
    """
    text = _LINES.sub("\n", unicodedata.normalize("NFC", text.encode("utf-8", "ignore").decode()))
    text = _RULE.sub("", _FENCE.sub("", text))
    text = (
        _HEADING.sub("", text) if _HEADING.sub("", text).strip() else re.sub(r"^[ \t]*#+[ \t]*", "", text, flags=re.M)
    )
    text = _STRONG.sub(r"\2", _LINK.sub(r"\1", text).translate(_QUOTES))
    line = ""
    for raw in text.split("\n"):
        part = _BULLET.sub("", raw).strip()
        if part:
            is_item = part != raw.strip()
            line += (", " if is_item and line and line[-1].isalnum() else " " if line else "") + part
    line = "".join(c for c in line.replace("\t", " ") if unicodedata.category(c) not in _UNWANTED and _shows(c))
    return _unquoted(" ".join(line.split()))


def _shows(character: str) -> bool:
    return unicodedata.category(character) != "Cf" or character in _JOINERS


def _unquoted(line: str) -> str:
    """Without quotation marks around the whole, where they are one pair."""
    while len(line) > 1 and line[0] == line[-1] and line[0] in "\"'" and line[0] not in line[1:-1]:
        line = line[1:-1].strip()
    return line


_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs no approx ca cf etc e.g i.e inc ltd co ft mt fig".split()  # noqa: SIM905
)
_LONGEST_ABBREVIATION = max(map(len, _ABBREVIATIONS))
_STOP = re.compile(r"[.!?…]+[\"')\]]*(?=\s|$)|[。！？｡]+[」』”\")\]]*|[।॥؟۔]+(?=\s|$)")
_LAST_WORD = re.compile(r"[\w.]+$")


def sentences(line: str) -> list[str]:
    """The sentences of a line, each with its stop; a last one may be without.

    A full stop behind an abbreviation or a single initial ("Dr.", "J.") ends none.
    """
    ends = _ends(line)
    if not ends or line[ends[-1] :].strip():
        ends.append(len(line))
    return [line[start:end].strip() for start, end in pairwise([0, *ends])] if line else []


def full_sentences(line: str) -> str:
    """`line` up to the end of its last sentence that has a stop; "" where there is none."""
    ends = _ends(line)
    return line[: ends[-1]] if ends else ""


def _ends(line: str) -> list[int]:
    """Where sentences end."""
    found = [0]
    for stop in _STOP.finditer(line):
        before = line[max(found[-1], stop.start() - _LONGEST_ABBREVIATION - 1) : stop.start()]
        if not _abbreviates(before, stop.group()):
            found.append(stop.end())
    return found[1:]


def _abbreviates(before: str, stop: str) -> bool:
    word = _LAST_WORD.search(before)
    if stop != "." or word is None:
        return False
    return word.group().lower() in _ABBREVIATIONS or (len(word.group()) == 1 and word.group().isupper())


_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts written without spaces between words, as Unicode's names of their letters begin."""


def script_of(letter: str) -> str:
    """The writing system of a letter: the first word of its Unicode name, in lower case ("latin"); CJK is "han"."""
    name = unicodedata.name(letter, "")
    first = name.removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split(" ")[0].split("-")[0].lower()
    return "han" if first in ("cjk", "ideographic") else first


def words(line: str) -> list[str]:
    """The words of a line in lower case, without punctuation; of scripts without spaces, each letter is one."""
    found: list[str] = []
    word = ""
    for character in line.lower() + " ":
        if character.isalpha() and not character.isascii() and unicodedata.name(character, "").startswith(_UNSPACED):
            found += [word.rstrip("'-"), character]
            word = ""
        elif character.isalnum() or unicodedata.category(character)[0] == "M" or (word and character in "'-"):
            word += character
        elif word:
            found.append(word.rstrip("'-"))
            word = ""
    return [word for word in found if word]
