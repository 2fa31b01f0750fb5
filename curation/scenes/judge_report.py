"""How well the judge reads: `python -m curation.scenes.judge_report [--count N] [--out report.json]`.

Renders scenes whose truth is known, spoils them in named ways, reads them, and prints accuracy by attribute, confusion
tables, and what becomes of noise. Scenes of the studio are held-out ones, and all seeds are used nowhere else. Whoever
reports a result that rests on the judge reports this with it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.scenes.background import BACKGROUND_RGB
from curation.scenes.dice import Dice
from curation.scenes.judge import read_scene
from curation.scenes.judge.measure import ATTRIBUTES, OPEN, Tally
from curation.scenes.render import COLOUR_RGB, DEFAULT_LOOK, Look, render
from curation.scenes.scene import WHOLE, Scene, World, random_scene
from curation.scenes.studio import LOOK, STUDIO, studio_picture, studio_scene

Pixels = NDArray[np.uint8]
NATIVE_SIDES = (512, 1440)
"""Pixels: shorter sides of native pictures of the whole world; they are up to twice as long."""
SCALED_SIDE = 512
"""Pixels a side of the pictures of the whole world that are scaled down and up again."""


_GROUNDS = [BACKGROUND_RGB[name][0] for name in STUDIO.backgrounds]


@dataclass(frozen=True)
class Arm:
    """One kind of pictures."""

    name: str
    world: World
    look: Look
    draw: Callable[[str], tuple[Scene, Pixels]]
    """From a seed."""


def arms() -> list[Arm]:
    """All kinds of pictures of known truth, in the order of the report."""
    studio = [("native", _same), ("×2", _scaled(2)), ("×4", _scaled(4)), ("as generated", generated)]
    whole = [("×2", _scaled(2)), ("×4", _scaled(4)), ("×16", _scaled(16))]
    return [
        *(Arm(f"studio {name}", STUDIO, LOOK, _studio(spoil)) for name, spoil in studio),
        Arm("whole native", WHOLE, DEFAULT_LOOK, native),
        *(Arm(f"whole {SCALED_SIDE} px {name}", WHOLE, DEFAULT_LOOK, _whole(spoil)) for name, spoil in whole),
    ]


def native(seed: str) -> tuple[Scene, Pixels]:
    """A scene of the whole world as the web would serve it: any size, any aspect to 2, JPEG, WebP or no loss."""
    dice = Dice("judge native", seed)
    scene = random_scene(("judge native", seed))
    short = dice.whole(*NATIVE_SIDES)
    sides = (short, round(short * dice.between(1, 2)))
    width, height = sides if dice.chance(0.5) else sides[::-1]
    pixels = render(scene, width, height, seed=("judge native", seed))
    kind = dice.pick(("jpg", "webp", "none"))
    return scene, pixels if kind == "none" else _compressed(pixels, kind, dice.whole(70, 95))


def scaled(pixels: Pixels, times: int) -> Pixels:
    """`pixels` made smaller by `times` a side and enlarged again: of the same size, with less detail."""
    height, width = pixels.shape[:2]
    tiny = cv2.resize(pixels, (width // times, height // times), interpolation=cv2.INTER_AREA)
    return cv2.resize(tiny, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def generated(pixels: Pixels, seed: str) -> Pixels:
    """What a decoder or a small diffusion model does at worst: soft, a pixel off, off in colour, a little noisy."""
    dice = Dice("judge generated", seed)
    height, width = pixels.shape[:2]
    move = np.array([[1, 0, dice.between(-1, 1)], [0, 1, dice.between(-1, 1)]], np.float32)
    moved = cv2.warpAffine(pixels, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(moved, (0, 0), dice.between(0.3, 0.7)).astype(np.float32)
    shift = np.array([dice.between(-6, 6) for _ in range(3)], np.float32)
    noise = np.random.default_rng(dice.whole(0, 2**32)).normal(0, 1, pixels.shape).astype(np.float32)
    cloud = cv2.GaussianBlur(noise, (0, 0), 1.5)
    found: Pixels = np.clip(soft + shift + 4 * cloud / cloud.std() + 2 * noise, 0, 255).astype(np.uint8)
    return found


def noises(side: int, seed: str) -> dict[str, Pixels]:
    """Pictures of nothing, [side, side, 3], from which the judge should abstain; scribbles lie on a true background."""
    rng = np.random.default_rng(Dice("judge noise", seed).whole(0, 2**32))
    white = rng.normal(0, 1, (side, side, 3)).astype(np.float32)
    level = rng.uniform(0, 255, (1, 1, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(white, (0, 0), side / 16)
    soft = cv2.GaussianBlur(white, (0, 0), side / 64)
    ground, paint = (np.array(rng.choice(list(rgb))) for rgb in (_GROUNDS, COLOUR_RGB.values()))
    blot = cv2.GaussianBlur(white[..., :1], (0, 0), side / rng.uniform(14, 30))
    ink = np.clip(8 * (blot / blot.std() - rng.uniform(0.8, 1.6)), 0, 1)[..., None]
    return {
        "white noise": rng.integers(0, 256, (side, side, 3), np.uint8),
        "noise around a colour": np.clip(level + 40 * white, 0, 255).astype(np.uint8),
        "soft noise": np.clip(128 + 60 * soft / soft.std(), 0, 255).astype(np.uint8),
        "blobs": np.clip(128 + 60 * blobs / blobs.std(), 0, 255).astype(np.uint8),
        "scribbles": (ground * (1 - ink) + paint * ink).astype(np.uint8),
    }


def measure(count: int) -> dict[str, object]:
    """The whole report: `count` pictures an arm, a quarter of them of the whole world's, which are large."""
    report: dict[str, object] = {}
    for arm in arms():
        tally, seconds = Tally(), 0.0
        for index in range(count if arm.world is STUDIO else max(1, count // 4)):
            truth, pixels = arm.draw(f"held out {index}")
            began = time.process_time()
            reading = read_scene(pixels, arm.world, arm.look)
            seconds += time.process_time() - began
            tally.add(truth, reading)
        words = {
            "background": arm.world.backgrounds,
            "pattern": arm.world.patterns,
            "position": ("taken", "empty"),
            "shape": arm.world.shapes,
            "size": arm.world.sizes,
            "colour": arm.world.colours,
            "texture": arm.world.textures,
        }
        report[arm.name] = {
            "pictures": tally.pictures,
            "ms": round(1000 * seconds / tally.pictures, 1),
            "accuracy": {name: round(share, 4) for name, share in tally.accuracy().items()},
            "open": {name: round(share, 4) for name, share in tally.abstentions().items()},
            "confusion": {
                name: {"words": [*words[name], OPEN], "counts": tally.confusion(name, words[name])}
                for name in ATTRIBUTES
            },
        }
    return {"arms": report, "noise": _of_noise(max(1, count // 10))}


def _of_noise(count: int) -> dict[str, dict[str, float]]:
    """By kind of picture, the shares in which the judge names a background, anything of an object, a whole scene."""
    said: dict[str, list[tuple[bool, bool, bool]]] = {}
    for name, world, look, side in (("studio", STUDIO, LOOK, 64), ("whole", WHOLE, DEFAULT_LOOK, 512)):
        for index in range(count):
            for kind, pixels in noises(side, f"held out {index}").items():
                reading = read_scene(pixels, world, look)
                words = [word for cell in reading.found for word in cell.words if word is not None]
                answer = (reading.background.word is not None, bool(words), reading.scene() is not None)
                said.setdefault(f"{name}: {kind}", []).append(answer)
    columns = ("background", "object", "scene")
    return {
        kind: {"pictures": count, **dict(zip(columns, np.mean(answers, axis=0).round(4).tolist(), strict=True))}
        for kind, answers in said.items()
    }


def text(report: dict[str, object], confusion_of: tuple[str, ...] = ()) -> str:
    """`report` as Markdown, with confusion tables of the named arms."""
    found: dict[str, dict[str, dict[str, float]]] = report["arms"]  # type: ignore[assignment]
    columns = (*ATTRIBUTES, "all right")
    lines = [f"| pictures | n | {' | '.join(columns)} | CPU ms |", "|---" * (len(columns) + 3) + "|"]
    for name, arm in found.items():
        shares = " | ".join(f"{arm['accuracy'][column]:.3f}" for column in columns)
        lines.append(f"| {name} | {arm['pictures']} | {shares} | {arm['ms']} |")
    lines += ["", "| pictures of nothing | n | background named | anything of an object | a scene |", "|---" * 5 + "|"]
    noise: dict[str, dict[str, float]] = report["noise"]  # type: ignore[assignment]
    for name, row in noise.items():
        lines.append(f"| {name} | {row['pictures']} | {row['background']} | {row['object']} | {row['scene']} |")
    for name in confusion_of:
        for attribute, table in found[name]["confusion"].items():
            words: list[str] = table["words"]  # type: ignore[index]
            lines += ["", f"{name}, {attribute} (rows: truth)", "", f"| | {' | '.join(words)} |"]
            lines.append("|---" * (len(words) + 1) + "|")
            for word, counts in zip(words, table["counts"], strict=False):  # type: ignore[index]
                lines.append(f"| {word} | {' | '.join(str(n) for n in counts)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=400, help="pictures an arm of the studio; a quarter of the whole")
    parser.add_argument("--confusion", nargs="*", default=None, help="arms whose tables to print; default: all")
    parser.add_argument("--out", type=Path, help="a JSON file for all of it")
    settings = parser.parse_args()
    report = measure(settings.count)
    named = [arm.name for arm in arms()] if settings.confusion is None else settings.confusion
    print(text(report, tuple(named)))
    if settings.out:
        settings.out.write_text(json.dumps(report, ensure_ascii=False) + "\n", encoding="utf-8")


def _same(pixels: Pixels, seed: str) -> Pixels:
    return pixels


def _scaled(times: int) -> Callable[[Pixels, str], Pixels]:
    return lambda pixels, seed: scaled(pixels, times)


def _studio(spoil: Callable[[Pixels, str], Pixels]) -> Callable[[str], tuple[Scene, Pixels]]:
    def draw(seed: str) -> tuple[Scene, Pixels]:
        scene = studio_scene(("judge", seed), held_out=True)
        return scene, spoil(studio_picture(scene, ("judge", seed)), seed)

    return draw


def _whole(spoil: Callable[[Pixels, str], Pixels]) -> Callable[[str], tuple[Scene, Pixels]]:
    def draw(seed: str) -> tuple[Scene, Pixels]:
        scene = random_scene(("judge scaled", seed))
        return scene, spoil(render(scene, SCALED_SIDE, SCALED_SIDE, seed=("judge scaled", seed)), seed)

    return draw


def _compressed(pixels: Pixels, kind: str, quality: int) -> Pixels:
    how = cv2.IMWRITE_JPEG_QUALITY if kind == "jpg" else cv2.IMWRITE_WEBP_QUALITY
    _, data = cv2.imencode(f".{kind}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [how, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None  # of what was just encoded
    return decoded  # type: ignore[return-value]


if __name__ == "__main__":
    main()
