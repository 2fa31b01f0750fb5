"""Proper names of the original caption, which no model can see in an image, worked into what the model wrote.

CapsFusion (Yu et al. 2023) lets a language model merge the web's text with a synthetic caption, because the first knows
that this is "Notre-Dame" and the second that it is "a large stone church". Here the model gets the few words that look
like names and nothing else of the web's text, so that its noise stays out. Wrong names would be worse than none:
`candidate_names` leaves out whatever may be something else. Called by the caption stage under `keep_names`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from curation.caption.text import words

MAX_NAMES = 3
MAX_WORDS = 6
LONGEST = 1000
"""Characters of the original text that are looked at: it comes from the web."""
_KEPT_SHARE = 0.6
"""Of the words of the caption, this share must still be there after the fusion."""

_FUNCTION = frozenset(
    words(
        """
        a an the of in on at by for from with to and or but is are was were be as it its his her their our your my this
        that these those into over under near after before during between about up down out off not no i he she they we
        you who which what when where how all
        """
    )
)
_INNER = frozenset(words("of the de da di du del della van von der den la le los las el al bin y"))
"""Small words that may stand within a name: "Statue of Liberty", "Leonardo da Vinci"."""
_NEVER = frozenset(
    # cameras, sites, file formats, shop talk, calendar: capitalised, and not in the picture
    words(
        """
        canon nikon sony fujifilm fuji leica olympus panasonic pentax hasselblad kodak gopro iphone eos dslr lumix getty
        shutterstock istock adobe alamy pinterest etsy amazon ebay facebook instagram twitter flickr unsplash pexels
        pixabay wikipedia wikimedia youtube google photoshop dreamstime depositphotos redbubble tumblr reddit blog photo
        photos photography photograph image images picture pictures stock vector clipart illustration wallpaper
        wallpapers background poster print prints canvas art free download downloads premium royalty license editorial
        buy sale sold price shop store order online shipping review news video gallery page site website home copyright
        hd uhd fhd qhd png jpg jpeg gif svg pdf eps psd tiff webp dpi rgb cmyk diy cgi xl xxl usd eur gbp vip faq
        january february march april may june july august september october november december jan feb mar apr jun jul
        aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday
        """
    )
)
_JUNK = re.compile(
    r"https?://\S+|www\.\S+|\S+@\S+|[#@]\w+|<[^>]{0,200}>"
    r"|\S+\.(?:jpe?g|png|gif|webp|svg|tiff?|bmp|avif|com|net|org|html?|php)\b\S*",
    re.I,
)
_CREDIT = re.compile(r"(?:\b(?:by|via|courtesy(?: of)?|copyright|credits?|photographer|source)\b:?|©|\(c\))\s*$", re.I)
_BREAK = re.compile(r"[,;:|/·•()\[\]{}\"\n]|\s[-–—]+\s|(?<!\b[A-Z])(?<!\b[DMS][rt])[.!?…]+(?=\s|$)")
_SENTENCE_BREAK = re.compile(r"[.!?…:|\n]|\s[-–—]\s")
_WORD = re.compile(r"[^\s]+")


def candidate_names(alt_text: str, caption: str = "") -> list[str]:
    """What in `alt_text` looks like proper names that `caption` lacks; at most three, in their order.

    A name is a run of capitalised words, with small words such as "of" or "da" between them. One word alone counts
    only where it does not begin a sentence, or is there twice. No names are found in texts in which nearly every word
    is capitalised (headlines) or most letters are (shouting); none in credits ("by …"), addresses and file names.
    """
    text = " ".join(_JUNK.sub(" | ", html.unescape(alt_text[:LONGEST])).replace("’", "'").split(" "))
    if _is_headline(text):
        return []
    known = f" {' '.join(words(caption))} "
    runs = _runs(text)
    found: list[str] = []
    for name, starts in runs:
        single = " " not in name
        if single and starts and sum(other == name for other, _ in runs) < 2:
            continue
        if f" {' '.join(words(name))} " in known or name in found:
            continue
        found.append(name)
    return found[:MAX_NAMES]


def _is_headline(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    if 2 * sum(c.isupper() for c in letters) > len(letters):
        return True
    content = [w for w in re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text) if w.lower() not in _FUNCTION and len(w) > 1]
    capitalised = sum(w[0].isupper() for w in content)
    return capitalised == len(content) or (len(content) >= 5 and 4 * capitalised > 3 * len(content))


def _runs(text: str) -> list[tuple[str, bool]]:
    """Runs of capitalised words, and whether each begins a sentence."""
    found: list[tuple[str, bool]] = []
    start, fresh = 0, True
    for end, stop in [*((m.start(), m.group()) for m in _BREAK.finditer(text)), (len(text), "")]:
        run: list[str] = []
        run_at, run_starts = 0, False
        for i, match in enumerate([*_WORD.finditer(text[start:end]), None]):
            word = match.group().strip("'\".,*_") if match else ""
            if run and word.lower() in _INNER and word.islower():
                run.append(word)
            elif _may_be_name(word):
                if not run:
                    assert match is not None
                    run_at, run_starts = start + match.start(), fresh and i == 0
                run.append(word)
            elif run:
                is_new = run_starts and run[0] == "New"  # "New Shoes", and then "New York" goes with them
                if (name := _name(run)) and not is_new and not _CREDIT.search(text[:run_at]):
                    found.append((name, run_starts))
                run = []
        fresh = bool(_SENTENCE_BREAK.search(stop)) if text[start:end].strip() or stop.strip() else fresh
        start = end + len(stop)
    return found


def _may_be_name(word: str) -> bool:
    """Whether a word is spelt as one of a name: "Liberty", "O'Hara", "J", "BMW"; not "IMG_2034", "iPad", "1024x768"."""
    bare = word.removesuffix("'s")
    return bool(bare) and bare[0].isupper() and bare.replace("-", "").replace("'", "").isalpha()


def _name(run: Sequence[str]) -> str | None:
    run = list(run)
    while run and (run[-1].islower() or run[-1].lower() in _FUNCTION):
        run.pop()
    while run and run[0].lower() in _FUNCTION:  # "The Hague" loses its article, "The" of a sentence too
        run = run[1:]
        while run and run[0].islower():
            run = run[1:]
    if not run or len(run) > MAX_WORDS or any(word.lower().removesuffix("'s") in _NEVER for word in run):
        return None
    run[-1] = run[-1].removesuffix("'s")
    spelt = [word for word in run if not word.isupper() and not word.islower() and len(word) > 1]
    if not spelt or any(word.isupper() and len(word) > 5 for word in run):  # an acronym alone says too little
        return None
    return " ".join(run)


def holds_names(fused: str, caption: str, names: Sequence[str]) -> bool:
    """Whether a fused text is `caption` with a name in it: a name of `names`, and most of the caption's words."""
    after = words(fused)
    text = f" {' '.join(after)} "
    if not any(f" {' '.join(words(name))} " in text for name in names):
        return False
    before = set(words(caption)) - _FUNCTION
    return len(before & set(after)) >= _KEPT_SHARE * len(before)
