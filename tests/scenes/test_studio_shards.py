"""The studio's tars: true captions, no held-out scenes, the same on every machine, and a source of curations."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from curation.scenes.describe import medium, parse_dense, short
from curation.scenes.judge import read_scene, score_scene
from curation.scenes.studio import LOOK, SIDE, STUDIO, is_held_out
from curation.scenes.studio_shards import sample, write_studio


def test_captions_are_true_and_no_scene_is_held_out() -> None:
    right = []
    for number in range(40):
        picture, facts = sample(number)
        scene = parse_dense(str(facts["caption_dense"]))
        assert not is_held_out(scene)
        assert facts["caption_short"] == short(scene)
        assert facts["caption_medium"] == medium(scene)
        assert facts["number"] == number
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == (SIDE, SIDE)
            right.append(score_scene(read_scene(np.asarray(image), STUDIO, LOOK), scene).share)
    assert sum(right) / len(right) > 0.99


def test_what_is_there_is_left_alone_and_a_half_written_tar_is_not_there(tmp_path: Path) -> None:
    (path,) = write_studio(tmp_path, 5, processes=1)
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert names == [f"{n:08d}.{end}" for n in range(5) for end in ("png", "json")]
    before = path.read_bytes()
    path.with_suffix(".tmp").write_bytes(b"cut off")
    path.unlink()
    assert write_studio(tmp_path, 5, processes=1) == [path]
    assert path.read_bytes() == before
    written = path.stat().st_mtime_ns
    write_studio(tmp_path, 5, processes=1)
    assert path.stat().st_mtime_ns == written
