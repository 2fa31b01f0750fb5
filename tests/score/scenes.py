"""Pictures of scenes with their captions, as the operators of the score stage get them."""

from __future__ import annotations

import pyarrow as pa
from PIL import Image

from curation.names import make_uid
from curation.scenes.describe import dense
from curation.scenes.render import render
from curation.scenes.scene import random_scene


def pictures(count: int, width: int = 80, height: int = 60) -> list[Image.Image]:
    return [Image.fromarray(render(random_scene(("score", i)), width, height, seed=i)) for i in range(count)]


def captions(count: int) -> list[str | None]:
    return [dense(random_scene(("score", i))) for i in range(count)]


def rows(alt_text: list[str | None]) -> pa.Table:
    uids = [make_uid("scenes", str(i)) for i in range(len(alt_text))]
    return pa.table({"uid": uids, "alt_text": pa.array(alt_text, pa.string())})
