"""What hangs in the gallery: for every row of a list, what the web will answer, and what should become of the row.

`make_exhibits(count, seed)` is pure, so the server and those who test against it need to share two numbers only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from curation.row import Reason
from curation.scenes.describe import alt
from curation.scenes.dice import Dice
from curation.scenes.pictures import Picture
from curation.scenes.scene import random_scene

LIVE_HOSTS = 14
SLOW_HOST = LIVE_HOSTS
"""Answers, but late."""
DEAD_HOST = LIVE_HOSTS + 1
"""Refuses connections."""
HOSTS = LIVE_HOSTS + 2

SHARES: dict[str, float] = {
    # at least 1024 pixels on the shorter side, and fine
    "fine": 0.160,
    "watermarked": 0.015,
    "blurred": 0.015,
    "rotated": 0.010,  # by an EXIF tag, with a GPS position beside it
    "redirect": 0.010,
    "slow": 0.005,
    "wrong_type": 0.010,  # Content-Type: text/html
    "wrong_name": 0.005,  # a PNG named .jpg
    "flaky": 0.005,  # 503 at first
    "same_url": 0.005,  # an earlier row's URL again, and so on
    "same_bytes": 0.010,
    "same_picture": 0.020,  # encoded or scaled anew
    # large but for a reason not fine
    "banner": 0.007,
    "truncated": 0.005,
    "opt_out": 0.010,
    # no picture
    "missing": 0.020,
    "gone": 0.003,
    "forbidden": 0.003,
    "html": 0.007,
    "empty": 0.003,
    "loop": 0.003,
    "server_error": 0.003,
    "refused": 0.007,
}
"""Share of rows of each kind; the rest, about 66 %, is `small`, like most of the web."""

_FAULTS: dict[str, frozenset[str]] = {
    "missing": frozenset({Reason.HTTP_NOT_FOUND.value}),
    "gone": frozenset({Reason.HTTP_NOT_FOUND.value}),
    "forbidden": frozenset({Reason.HTTP_CLIENT_ERROR.value}),
    "html": frozenset({Reason.NOT_AN_IMAGE.value}),
    "empty": frozenset({Reason.EMPTY_BODY.value}),
    "loop": frozenset({Reason.BAD_REDIRECT.value}),
    "server_error": frozenset({Reason.HTTP_SERVER_ERROR.value}),
    "refused": frozenset({Reason.CONNECT_ERROR.value, Reason.HOST_PUT_ASIDE.value}),
    "same_url": frozenset({Reason.DUPLICATE_URL.value}),
}
ASPECTS = {(1, 1): 0.2, (4, 3): 0.3, (3, 2): 0.25, (3, 4): 0.1, (2, 3): 0.1, (16, 9): 0.05}


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One row of the list."""

    index: int
    kind: str
    """A key of `SHARES`, or `small`."""
    host: int
    """0 to HOSTS - 1."""
    path: str
    """Path and query of the URL; no two exhibits but `same_url` twins share it."""
    text: str
    """The list's caption, as noisy as the web's."""
    picture: Picture | None
    """What is served; None where nothing is."""
    twin_of: int | None = None
    """Index of the earlier row that a `same_…` row doubles."""


def expected(
    exhibit: Exhibit, *, min_side: int = 0, max_aspect: float | None = None, opt_out: bool = True
) -> frozenset[str]:
    """What source and fetch may make of a row under these settings: values of `Reason`, or `kept`.

    One element where it is clear-cut; more where order decides (both rules apply; a host put aside). At least one retry
    is assumed. Of twins with the same URL the earlier row is the live one. Duplicates by content are `select`'s.
    """
    if exhibit.kind in _FAULTS:
        return _FAULTS[exhibit.kind]
    if exhibit.kind == "opt_out" and opt_out:
        return frozenset({Reason.OPT_OUT.value})
    assert exhibit.picture is not None
    sides = sorted((exhibit.picture.width, exhibit.picture.height))
    found = set()
    if sides[0] < min_side:
        found.add(Reason.TOO_SMALL.value)
    if max_aspect is not None and sides[1] > max_aspect * sides[0]:
        found.add(Reason.ASPECT_TOO_EXTREME.value)
    if not found and exhibit.kind == "truncated":
        found.add(Reason.TRUNCATED_IMAGE.value)
    return frozenset(found or {"kept"})


def make_exhibits(count: int, seed: int) -> list[Exhibit]:
    """`count` rows. From 100 rows on every kind is there. Raises ValueError for a count under 1."""
    if count < 1:
        raise ValueError(f"a gallery shows at least one picture, not {count}")
    kinds = [k for k, share in SHARES.items() for _ in range(max(round(share * count), int(count >= 100)))]
    kinds = (kinds + ["small"] * count)[:count]
    exhibits: list[Exhibit] = []
    for index, kind in enumerate(_originals_first(Dice("order", seed).shuffled(kinds))):
        exhibits.append(_exhibit(index, kind, seed, exhibits))
    return exhibits


def _originals_first(kinds: list[str]) -> list[str]:
    """Moves one `fine` row to the front, so that a twin always finds an original before it."""
    if any(kind.startswith("same_") for kind in kinds):
        first = kinds.index("fine")
        kinds[0], kinds[first] = kinds[first], kinds[0]
    return kinds


def _exhibit(index: int, kind: str, seed: int, before: Sequence[Exhibit]) -> Exhibit:
    dice = Dice("exhibit", seed, index)
    scene = f"{seed}-{index}"
    host = {"slow": SLOW_HOST, "refused": DEAD_HOST}.get(kind, dice.whole(0, LIVE_HOSTS - 1))
    if kind.startswith("same_"):
        original = dice.pick([e for e in before if e.kind == "fine"])
        assert original.picture is not None
        scene = original.picture.scene
        text = alt(random_scene(scene), (seed, index))
        if kind == "same_url":
            return replace(original, index=index, kind=kind, text=text, twin_of=original.index)
        picture = original.picture if kind == "same_bytes" else _again(original.picture, dice)
        path = _path(picture, dice, seed, index)
        return Exhibit(index=index, kind=kind, host=host, path=path, text=text, picture=picture, twin_of=original.index)
    picture = _picture(kind, scene, dice)
    path = _path(picture, dice, seed, index)
    if kind == "wrong_name":
        path = path.replace(".png", ".jpg")
    text = alt(random_scene(scene), scene)
    served = None if kind in _FAULTS else picture
    return Exhibit(index=index, kind=kind, host=host, path=path, text=text, picture=served)


def _picture(kind: str, scene: str, dice: Dice) -> Picture:
    if kind == "small":
        width, height = _small(dice)
    elif kind == "banner":
        width, height = dice.pick(((2400, 1024), (1024, 2300), (2600, 1040)))
    else:
        wide, tall = dice.weighted(ASPECTS)
        side = dice.weighted({1024: 0.4, 1050: 0.2, 1080: 0.25, 1200: 0.12, 1440: 0.03})
        width, height = side * wide // min(wide, tall), side * tall // min(wide, tall)
    if kind in ("rotated", "truncated"):
        return Picture(
            scene=scene,
            width=width,
            height=height,
            format="jpeg",
            quality=dice.whole(80, 92),
            effect="rotated" if kind == "rotated" else "none",
        )
    return Picture(
        scene=scene,
        width=width,
        height=height,
        format="png" if kind == "wrong_name" else dice.weighted({"jpeg": 0.8, "png": 0.13, "webp": 0.07}),
        quality=dice.whole(75, 95),
        effect="blurred" if kind == "blurred" else "watermarked" if kind == "watermarked" else "none",
    )


def _small(dice: Dice) -> tuple[int, int]:
    """Sides of a picture whose shorter side is under 1024: thumbnails, blog pictures, near misses."""
    short = dice.weighted({"thumbnail": 0.4, "blog": 0.45, "near": 0.15})
    wide, tall = dice.weighted(ASPECTS)
    side = {"thumbnail": (90, 300), "blog": (300, 720), "near": (720, 1000)}[short]
    least = dice.whole(*side)
    return least * wide // min(wide, tall), least * tall // min(wide, tall)


def _again(picture: Picture, dice: Dice) -> Picture:
    """The same picture as somebody else put it up: in another quality or format, or scaled."""
    if dice.chance(0.5):
        return replace(picture, format="jpeg", quality=picture.quality - dice.whole(5, 25))
    scale = dice.between(0.5, 0.97)
    return replace(picture, width=round(picture.width * scale), height=round(picture.height * scale))


def _path(picture: Picture, dice: Dice, seed: int, index: int) -> str:
    """A path such as the web has them; its last twelve hex digits before the dot are the exhibit's alone."""
    tag = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).hexdigest()
    thing = random_scene(picture.scene).objects[0]
    folder = dice.pick(("images", "wp-content/uploads/2019/07", "media/catalog/product", "i", "photos/large", "files"))
    stem = dice.pick((f"{thing.colour}-{thing.shape}-", f"{thing.shape}_{picture.width}x{picture.height}_", ""))
    ending = "jpg" if picture.format == "jpeg" or dice.chance(0.03) else picture.format
    query = dice.weighted({"": 0.8, "?w=1600": 0.1, "?v=3&fit=max": 0.1})
    return f"/{folder}/{stem}{tag}.{ending}{query}"
