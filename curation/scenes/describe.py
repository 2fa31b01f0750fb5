"""Scene → words, as people, as captioners and as the web would put them; and `parse_dense`, the way back.

`short`, `medium` and `dense` are true; `dense` says all that a scene holds, so `parse_dense(dense(scene, seed))` is the
scene again for every seed. `alt` is what the web gives: short, noisy, sometimes a file name, sometimes about something
else. Even of four objects `dense` has under 50 words, which fit the 77 tokens of CLIP's text encoders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from curation.scenes.dice import Dice
from curation.scenes.scene import (
    BACKGROUNDS,
    COLOURS,
    PATTERNS,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    SceneObject,
    make_scene,
    random_scene,
)

_PLACE = {position: f"at the {position}" for position in POSITIONS} | {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
}
_OPENINGS = (
    "On a {background}, there {is_are} {things}.",
    "A picture of {things} on a {background}.",
    "{things} on a {background}.",
)
_CAMERA = ("IMG", "DSC", "P", "image", "photo", "untitled", "download", "screenshot")
_SITES = ("PrintBarn", "wallpaperfox.net", "The Craft Shed", "Poster House", "clipartly", "shapes4u")
_PADDING = ("free download", "HD wallpaper", "vector clip art", "art print", "pack of 10", "buy online", "stock image")


def short(scene: Scene) -> str:
    """The main things only: "a red star and a blue ring"; textures, sizes, places and background are left out."""
    return _joined([f"{_a(o.colour)} {o.shape}" for o in scene.objects])


def medium(scene: Scene) -> str:
    """Objects with size, texture and colour, and the background's colour; places and pattern are left out."""
    return f"{_capital(_joined([_thing(o) for o in scene.objects]))} on a {scene.background} background."


def dense(scene: Scene, seed: object = 0) -> str:
    """Everything that the scene holds, in a wording and an order that `seed` picks."""
    dice = Dice("dense", seed)
    return _said(scene, dice.shuffled(scene.objects), dice.pick(_OPENINGS))


def recited(scene: Scene) -> str:
    """`dense` in reading order and always in the same words: what the captioner learns to write."""
    return _said(scene, scene.objects, _OPENINGS[-1])


def _said(scene: Scene, objects: Sequence[SceneObject], opening: str) -> str:
    things = [f"{_thing(o)} {_PLACE[o.position]}" for o in objects]
    text = opening.format(
        background=_ground(scene),
        is_are="is" if len(things) == 1 else "are",
        things=_joined(things),
    )
    return _capital(text)


def parse_dense(text: str) -> Scene:
    """The scene that a dense description describes. Raises ValueError where `text` is none."""
    objects = [
        SceneObject(
            size=found["size"],
            texture=found["texture"] or "plain",
            colour=found["colour"],
            shape=found["shape"],
            position=found["position"],
        )
        for found in _THING.finditer(text.lower())
    ]
    grounds = list(_GROUND.finditer(text.lower()))
    rest = _GROUND.sub(" ", _THING.sub(" ", text.lower()))
    strange = set(re.findall(r"\w+", rest)) - {"on", "a", "of", "and", "there", "is", "are", "picture"}
    if not objects or len(grounds) != 1 or strange:
        raise ValueError(f"not a dense description of a scene: {text!r}")
    return make_scene(objects, grounds[0]["background"], grounds[0]["pattern"] or "plain")


def alt(scene: Scene, seed: object = 0) -> str:
    """Web-like text for a picture of `scene`: a third says little, a fifth is a file name, a tenth is plainly wrong."""
    dice = Dice("alt", seed)
    kind = dice.weighted({"true": 0.35, "vague": 0.2, "file": 0.2, "padded": 0.15, "wrong": 0.1})
    about = random_scene(("elsewhere", seed)) if kind == "wrong" else scene
    first = dice.pick(about.objects)
    if kind == "file":
        if dice.chance(0.5):
            return f"{dice.pick(_CAMERA)}_{dice.whole(1, 9999):04d}.{dice.pick(('jpg', 'JPG', 'jpeg', 'png'))}"
        return f"{first.colour}-{first.shape}-{dice.whole(100, 1600)}x{dice.whole(100, 1200)}.jpg"
    if kind == "vague":
        return dice.pick(
            (first.shape, f"{first.colour} {first.shape}", f"{first.shape}s", "shapes", "abstract background")
        )
    words = short(about)
    if kind == "padded":
        return f"{words.title()} - {dice.pick(_PADDING)} | {dice.pick(_SITES)}"
    return _capital(words) if dice.chance(0.5) else words


def _thing(o: SceneObject) -> str:
    texture = "" if o.texture == "plain" else f"{o.texture} "
    return f"a {o.size} {texture}{o.colour} {o.shape}"


def _ground(scene: Scene) -> str:
    if scene.pattern == "plain":
        return f"plain {scene.background} background"
    if scene.pattern == "gradient":
        return f"{scene.background} background with a gradient"
    return f"{scene.background} background with {'a grid' if scene.pattern == 'grid' else scene.pattern}"


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _one_of(name: str, words: tuple[str, ...]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return f"(?P<{name}>{'|'.join(longest_first)})"


_THING = re.compile(
    rf"\ba {_one_of('size', SIZES)} (?:{_one_of('texture', TEXTURES[1:])} )?{_one_of('colour', COLOURS)} "
    rf"{_one_of('shape', SHAPES)} (?:at|in|on) the {_one_of('position', POSITIONS)}\b"
)
_GROUND = re.compile(
    rf"\ba (?:plain )?{_one_of('background', BACKGROUNDS)} background"
    rf"(?: with (?:a )?{_one_of('pattern', PATTERNS[1:])})?"
)
