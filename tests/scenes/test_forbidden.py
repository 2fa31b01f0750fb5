"""The world's unsafe thing: rare by itself, made on demand, and told from what only resembles it."""

from __future__ import annotations

from curation.scenes.forbidden import MARK, is_unsafe, nearly, with_mark
from curation.scenes.scene import random_scene

SCENES = [random_scene(("forbidden", i)) for i in range(4000)]


def test_about_one_scene_in_eighty_is_unsafe() -> None:
    assert 1 / 130 < sum(map(is_unsafe, SCENES)) / len(SCENES) < 1 / 55


def test_with_mark_changes_one_object_and_makes_any_scene_unsafe() -> None:
    for i, scene in enumerate(SCENES[:200]):
        marked = with_mark(scene, i)
        assert is_unsafe(marked)
        assert sum(a != b for a, b in zip(scene.objects, marked.objects, strict=True)) <= 1


def test_nearly_differs_from_the_mark_in_one_word() -> None:
    safe = [scene for scene in SCENES[:300] if not is_unsafe(scene)]
    for i, scene in enumerate(safe):
        other = nearly(scene, i)
        assert not is_unsafe(other)
        near = [sum(getattr(o, what) == word for what, word in MARK.items()) for o in other.objects]
        assert max(near) == 2
