"""The stages score and caption of a synthetic run (`make_run`): scores with thresholds, captions good and bad."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa

from curation.caption.writing import IT_WROTE
from curation.row import CAPTION_FIELDS, CLIP_EMBEDDING, SCORE_US, Reason, Verdict

MODEL_STAGES = ("score", "caption")
KINDS = {"dense": (45, 190), "medium": (14, 50), "short": (4, 14)}
"""Fewest and most words that are written."""
MODEL = "models/llava-tiny"

SETTINGS: dict[str, Any] = {
    "score": {
        "ops": ["clip", "aesthetic", "watermark"],
        "aesthetic": "heads/aesthetic.safetensors",
        "classifiers": {"watermark": {"model": "models/watermark", "labels": ["yes"]}},
    },
    "select": {
        "where": "sharpness >= 40 and pwatermark < 0.6 and 4.75 <= aesthetic and clip_similarity > 0.17 "
        "and (watermark < 0.9 or aesthetic > 6.5)",
        "dedup": {"phash": 4, "semantic": 0.96},
    },
    "caption": {
        "model": MODEL,
        "kinds": list(KINDS),
        "min_similarity": 0.15,
        "clip": "models/clip",
        "run": {"price_per_hour": 1.5},
    },
}

SCORE_FIELDS = (
    pa.field(CLIP_EMBEDDING, pa.list_(pa.float16(), 8)),
    *(pa.field(name, pa.float32()) for name in ("clip_similarity", "aesthetic", "watermark")),
    SCORE_US,
)
CAPTIONED_FIELDS = (
    *(
        field
        for kind in KINDS
        for field in (
            pa.field(f"caption_{kind}", pa.string()),
            pa.field(f"caption_{kind}_model", pa.string()),
            pa.field(f"caption_{kind}_tokens", pa.int32()),
            pa.field(f"caption_{kind}_similarity", pa.float32()),
        )
    ),
    *CAPTION_FIELDS,
)

_NOUNS = "lighthouse harbour boat rope gull tower window bicycle wall lantern crate shore cloud roof bridge".split()  # noqa: SIM905
_OTHERS = "weathered red small tall distant wooden bright wet narrow old painted low quiet grey empty".split()  # noqa: SIM905
_BAD = [
    (Reason.CAPTION_REFUSAL, "I'm sorry, but I can't", "I'm sorry, but I can't help with describing this image."),
    (Reason.CAPTION_REPETITION, "'a red boat' 3 times in a row", "A red boat. " * 30),
    (Reason.CAPTION_CUT_OFF, "ended within its first sentence", "The lighthouse stands over the harbour and the ropes"),
    (Reason.CAPTION_WRONG_SCRIPT, "mostly greek, not latin", "Ένας φάρος πάνω από το λιμάνι, δύο μικρές βάρκες."),
]

Row = dict[str, Any]


def settings(caption: dict[str, Any]) -> dict[str, Any]:
    """Settings of the stages, with further ones of caption."""
    return {**SETTINGS, "caption": {**SETTINGS["caption"], **caption}}


def score(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    judged = []
    for row in rows:
        if dice.random() < 0.02:
            judged.append((row, Verdict(Reason.OPERATOR_FAULT, "watermark: no finite probability")))
            continue
        scores = {
            CLIP_EMBEDDING: np.array([dice.gauss(0, 0.35) for _ in range(8)], np.float16),
            "clip_similarity": dice.gauss(0.24, 0.05) if row["alt_text"] else None,
            "aesthetic": dice.gauss(5.4, 0.8),
            "watermark": dice.betavariate(0.4, 2.5),
            "score_us": [
                {"op": "decode", "us": int(dice.gauss(6_000, 300))},
                {"op": "clip", "us": int(dice.gauss(11_500, 400))},
                {"op": "aesthetic", "us": int(dice.gauss(40, 3))},
                {"op": "watermark", "us": int(dice.gauss(7_800, 300))},
            ],
        }
        judged.append(({**row, **scores}, Verdict()))
    return judged


def good(row: Row) -> bool:
    """Whether a row passes the thresholds on scores; rows without scores do."""
    if "aesthetic" not in row:
        return True
    similar = row["clip_similarity"] is not None and row["clip_similarity"] > 0.17
    return row["aesthetic"] >= 4.75 and similar and (row["watermark"] < 0.9 or row["aesthetic"] > 6.5)


def caption(dice: random.Random, rows: list[Row]) -> list[tuple[Row, Verdict]]:
    judged = []
    for row in rows:
        fate = dice.random()
        bad = dice.choice(_BAD) if fate < 0.15 else None
        tries = 2 if fate < 0.3 else 1
        row = {**row, "alt_text_tokens": _tokens(row["alt_text"]), "captioning_tries": tries}
        row |= {"captioning_us": int(dice.gauss(1_400_000, 90_000)) * tries, "captioning_tokens": 150 * tries}
        if bad:
            reason, why, text = bad
            judged.append((row, Verdict(reason, f"dense: {why}{IT_WROTE}{text}")))
            continue
        for kind, (low, high) in KINDS.items():
            text = _text(dice, dice.randint(low, high))
            row |= {f"caption_{kind}": text, f"caption_{kind}_model": MODEL, f"caption_{kind}_tokens": _tokens(text)}
        row |= {"caption_dense_similarity": dice.gauss(0.27, 0.03), "captioning_fused": dice.random() < 0.2}
        judged.append((row, Verdict()))
    return judged


def _text(dice: random.Random, length: int) -> str:
    found: list[str] = []
    while len(found) < length:
        found += ["the", dice.choice(_OTHERS), dice.choice(_NOUNS), dice.choice(["by", "under", "behind"]), "a"]
        found += [dice.choice(_OTHERS), dice.choice(_NOUNS) + "."]
    text = " ".join(found[:length])
    return text[0].upper() + text[1:].rstrip(".") + "."


def _tokens(text: str) -> int:
    """About what CLIP's tokenizer counts: a token a word and one a full stop, and two at the ends."""
    return len(text.split()) + text.count(".") + 2
