"""Is this text a caption? Pure functions on what a model wrote, called by the caption stage for every text.

`check` goes through these in order; the first that says no gives the reason (what is longer than any caption, 20,000
characters, is CAPTION_TOO_LONG at once):

1. `tidy`: one line of plain text, without what a model thought before it (`<think>`). Without a letter it is
   CAPTION_EMPTY.
2. Refusals ("I'm sorry, I can't…", "As an AI…") are CAPTION_REFUSAL; any sentence outside quotation marks may be one.
3. Boilerplate openings ("The image shows …") are stripped and the sentence begins with a capital again. Where nothing
   else was there it is CAPTION_EMPTY.
4. Loops are CAPTION_REPETITION: before the next check, because most loops run into the token limit.
5. A text that ended at the token limit is trimmed to its last full sentence; CAPTION_CUT_OFF where there is none.
6. Most letters must belong to the writing system that was asked for, else CAPTION_WRONG_SCRIPT.
7. CAPTION_TOO_SHORT and CAPTION_TOO_LONG, in words.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from curation.caption.text import full_sentences, script_of, sentences, tidy, words
from curation.row import Reason

LONGEST = 20_000
"""Characters; texts may come from a server, and the checks below take more than linear time."""


@dataclass(frozen=True)
class Checked:
    """A text as it would be stored, or why it is no caption."""

    text: str
    reason: Reason | None = None
    detail: str = ""
    """What exactly is wrong, for people."""


def check(raw: str, *, cut_off: bool, word_range: tuple[int, int], scripts: Collection[str]) -> Checked:
    """Judge what a model wrote.

    `cut_off`: it ended at the token limit. `word_range`: fewest and most words. `scripts`: writing systems in lower
    case as `script_of` names them, together; none turns that check off.
    """
    if len(raw) > LONGEST:
        return Checked(raw[:LONGEST], Reason.CAPTION_TOO_LONG, f"{len(raw):,} characters")
    _, thought, answer = raw.rpartition("</think>")
    if not thought and answer.lstrip().startswith("<think>"):
        return Checked(tidy(raw), Reason.CAPTION_CUT_OFF, "ended before the model had thought to the end")
    text = tidy(answer)
    if not _has_letter(text):
        return Checked(text, Reason.CAPTION_EMPTY, "no letter in it")
    if said := refusal(text):
        return Checked(text, Reason.CAPTION_REFUSAL, said)
    text = without_boilerplate(text)
    if not _has_letter(text):
        return Checked(text, Reason.CAPTION_EMPTY, "nothing but an opening phrase")
    if loop := repetition(text):
        return Checked(text, Reason.CAPTION_REPETITION, loop)
    if cut_off:
        whole = full_sentences(text)
        if not _has_letter(whole):
            return Checked(text, Reason.CAPTION_CUT_OFF, "ended at the token limit within its first sentence")
        text = whole
    if other := wrong_script(text, scripts):
        return Checked(text, Reason.CAPTION_WRONG_SCRIPT, other)
    count, (fewest, most) = len(words(text)), word_range
    if count < fewest:
        return Checked(text, Reason.CAPTION_TOO_SHORT, f"{count} words, fewer than {fewest}")
    if count > most:
        return Checked(text, Reason.CAPTION_TOO_LONG, f"{count} words, more than {most}")
    return Checked(text)


def _has_letter(text: str) -> bool:
    return any(character.isalpha() for character in text)


# ---------------------------------------------------------------------------------------------------------------------
# Refusals. The first person is what gives them away: captions have none, and what signs and shirts say is quoted.

_CANNOT = (
    r"(?:can't|cannot|can\ not|couldn't|could\ not|(?:am|was)\ (?:unable|not\ able)|won't|will\ not|am\ not\ allowed)"
)
_REFUSALS = re.compile(
    rf"""(?:(?:unfortunately|however|but|apologies|sorry|i\ apologi[sz]e),?\ (?:but\ )?)*
    (?: (?:i'm|im|i\ am)\ (?:very\ |really\ |so\ )?sorry(?=[,.!:;]|\ (?:but|i|that|for|to)\b|$)
      | sorry,?\ (?:but\ )?i\b
      | i\ (?:do\ )?apologi[sz]e\b | my\ apologies\b
      | (?:i'm|i\ am)\ afraid\ (?:that\ )?i\b
      | i\ {_CANNOT}\b
      | i'm\ (?:unable|not\ able|not\ allowed|just\ an?\ (?:ai|text|language))\b
      | (?:i|you)\ (?:do\ not|don't|haven't|have\ not|didn't|did\ not)\ (?:see|have|find|provide|upload|attach)\w*\b
      | as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model|text-based)
        (?:,|\ (?:language|model|assistant|system|chatbot|developed|created|i\b|my\b))
      | (?:there\ is\ )?no\ image\ (?:(?:was|has\ been|is|were)\ )?(?:provided|attached|uploaded|given|visible)
      | (?:could\ you\ |can\ you\ )?please\ (?:provide|upload|share|attach|send|describe)\b
      | (?:it\ is|it's|this\ is)\ against\ (?:my|our)\b
      | i\ must\ decline\b
      | (?:it\ is|it's)\ (?:not\ possible|impossible)\ (?:for\ me\ )?to\ (?:describe|caption|view|help|assist|comply)\b
      | (?:it\ (?:seems|looks\ like|appears)\ (?:that\ )?)?(?:the|your)\ (?:image|picture|photo)
        \ (?:did\ not|didn't|has\ not|hasn't|was\ not|wasn't)\ (?:come|load|upload|attach|include|provide)
      | (?:user|assistant|human|system)\ ?:
      | lo\ siento,?\ (?:pero\ )?no | je\ suis\ désolé | es\ tut\ mir\ leid | desculpe,?\ (?:mas\ )?(?:eu\ )?não
      | 申し訳 | 抱歉 | 很抱歉 | 对不起 | 죄송 )""",
    re.I | re.X,
)
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^\"]*?'(?!\w)")


def refusal(text: str) -> str | None:
    """The first words of the sentence with which a model refuses or finds no image, or None. `text` is tidy."""
    for sentence in sentences(_QUOTED.sub('""', text)):
        if _REFUSALS.match(sentence):
            return sentence[:80]
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Boilerplate. Only what says nothing of the picture: "The painting shows" and "The black-and-white photo shows" stay.

_NOUN = r"(?:image|picture|photo|photograph|scene)"
_VERB = (
    r"(?:shows?|showing|depicts?|depicting|features?|featuring|captures?|displays?|presents?|portrays?|showcases?"
    r"|illustrates?|contains?|appears\ to\ (?:show|depict|be)|is\ (?:an?\ (?:image|picture|photo|photograph)\ )?of)"
)
_SEEN = r"(?:(?:we|you|one)\ (?:can\ )?(?:clearly\ )?(?:see|observe|notice)(?:\ that)?\ )"
_LABELS = r"(?:image|short|detailed|dense|brief|final|shortened|revised|rewritten)"
_OPENINGS = [
    re.compile(pattern, re.I | re.X)
    for pattern in (
        r"(?:sure|certainly|of\ course|absolutely|okay|ok)[,.!]+\s*(?=\S)",
        r"(?:here\ is|here's|below\ is)\ (?:an?|the|your)\ [^.:]{0,60}?\b(?:caption|description)\b[^.:]{0,60}:\s*",
        rf"(?:{_LABELS}\ )?(?:caption|description|answer|image)\s*:\s*",
        rf"(?:in|within)\ (?:this|the)\ {_NOUN}(?:,\s*{_SEEN}?|\ {_SEEN}|\ (?=there\ (?:is|are)\b))",
        rf"(?:the|this)\ (?:given\ |provided\ |attached\ |above\ )?{_NOUN}\ (?:that\ )?{_VERB}"
        r"(?!\ (?:how|what|where|why|signs)\b)(?:\ that)?(?::\s*|\s+|(?=\W|$))",
        r"this\ is\ (?:an?|the)\ (?:image|picture|photo|photograph)\ (?:of|that\ shows|showing|depicting|featuring)\s+",
    )
]


def without_boilerplate(text: str) -> str:
    """`text` without an opening that says nothing of the picture, with a capital again. `text` is tidy."""
    stripped = text
    for _ in range(4):  # "Sure! Here is a caption: In this image, …"
        for opening in _OPENINGS:
            if match := opening.match(stripped):
                stripped = stripped[match.end() :].lstrip(" ,:;-")
                break
        else:
            break
    if stripped != text:
        stripped = tidy(stripped)  # quotation marks that stood behind a label
    return _capitalised(stripped) if stripped != text else text


def _capitalised(text: str) -> str:
    # "iPhone" and "eBay" are spelt as they are
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


# ---------------------------------------------------------------------------------------------------------------------
# Loops. Rae et al. 2021 (Gopher, table A1) count duplicate n-grams of documents; captions are short, so the thresholds
# here are wider, and what repeats without a break, as only models do, is looked for on its own.

_LETTER_LOOP = re.compile(r"(\S{1,20}?)\1{9,}")
_NGRAM = 4
_SEEN_SHARE = 0.5
_SEEN_WORDS = 20
_SENTENCE_WORDS = 5
_LONGEST_PERIOD = 100


def repetition(text: str) -> str | None:
    """What a text repeats as only a model in a loop does, or None.

    Any of: a string ten times without a space; a word five times in a row, two words four times, a longer run of words
    three times; the same sentence of at least five words twice in a row; more than half of the words within 4-grams
    that were there before (in texts of at least 20 words). A refrain between different lines is none of these.
    """
    for run in _LETTER_LOOP.finditer(text):
        if any(character.isalpha() for character in run[1]):
            return f"{run[1]!r} over and over"
    found = words(text)
    for period in range(1, min(len(found) // 3, _LONGEST_PERIOD) + 1):
        times = {1: 5, 2: 4}.get(period, 3)
        run_length = 0
        for i in range(len(found) - period):
            run_length = run_length + 1 if found[i] == found[i + period] else 0
            if run_length >= period * (times - 1):
                return f"{' '.join(found[i + 1 : i + 1 + period])[:80]!r} {times} times in a row"
    before: list[str] = []
    for sentence in map(words, sentences(text)):
        if len(sentence) >= _SENTENCE_WORDS and sentence == before:
            return f"{' '.join(sentence)[:80]!r} twice in a row"
        before = sentence
    seen: set[tuple[str, ...]] = set()
    old = [False] * len(found)
    for i in range(len(found) - _NGRAM + 1):
        gram = tuple(found[i : i + _NGRAM])
        if gram in seen:
            old[i : i + _NGRAM] = [True] * _NGRAM
        seen.add(gram)
    if len(found) >= _SEEN_WORDS and sum(old) > _SEEN_SHARE * len(found):
        return f"{sum(old)} of {len(found)} words stand in phrases that were there before"
    return None


# ---------------------------------------------------------------------------------------------------------------------


def wrong_script(text: str, scripts: Collection[str]) -> str | None:
    """Which writing system most letters belong to, if that is none of `scripts`; else None."""
    letters = [script_of(character) for character in text if character.isalpha()]
    if not scripts or 2 * sum(script in scripts for script in letters) > len(letters):
        return None
    most = max(sorted(set(letters)), key=letters.count)
    return f"mostly {most}, not {' or '.join(scripts)}"
