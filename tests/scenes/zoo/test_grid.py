"""The auxiliary task: a scene's classes say all of it, and patches are asked about the cell in which they lie."""

from __future__ import annotations

import torch

from curation.scenes.render import render
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
from curation.scenes.zoo.crowd import crowd
from curation.scenes.zoo.grid import ANSWERS, CELL, NOTHING, UNASKED, PatchHead, cells_of, classes, grid_loss


def read(found: list[list[int]]) -> Scene:
    objects = [
        SceneObject(
            shape=SHAPES[row[0]], colour=COLOURS[row[1]], texture=TEXTURES[row[2]], size=SIZES[row[3]], position=place
        )
        for place, row in zip(POSITIONS, found, strict=True)
        if row[0] != NOTHING
    ]
    return make_scene(objects, BACKGROUNDS[found[0][5]], PATTERNS[found[0][6]])


def test_classes_hold_the_whole_scene() -> None:
    for i in range(100):
        scene = random_scene(("grid", i))
        found = classes(scene).tolist()
        assert read(found) == scene
        ranks = [row[4] for row in found if row[0] != NOTHING]
        assert ranks == list(range(len(scene.objects)))
        assert all(row[1 : len(CELL)] == [UNASKED] * 4 for row in found if row[0] == NOTHING)
        assert all(row[7] == len(ranks) - 1 for row in found)


def test_crowds_are_asked_for_their_objects_but_for_no_count() -> None:
    for i in range(50):
        many = crowd(i)
        assert 5 <= len(many.objects) <= 9
        found = classes(many)
        assert (found[:, 0] != NOTHING).sum() == len(many.objects)
        assert found[found[:, 0] != NOTHING, 4].tolist() == [0, 1, 2, 3, *[UNASKED] * (len(many.objects) - 4)]
        assert set(found[:, 7]) == {UNASKED}
        assert render(many, 48, 48, seed=i).shape == (48, 48, 3)


def test_a_question_that_nobody_is_asked_costs_nothing() -> None:
    wanted = torch.full((2, 9, len(ANSWERS)), UNASKED)
    assert grid_loss(torch.randn(2, 9, sum(ANSWERS)), wanted) == 0


def test_each_cell_has_its_patches() -> None:
    assert cells_of(3).tolist() == list(range(9))
    assert cells_of(12).view(12, 12)[4:8, 8:].unique().tolist() == [5]
    assert cells_of(12).bincount().tolist() == [16] * 9


def test_a_head_that_knows_has_no_loss_and_is_right() -> None:
    head = PatchHead(sum(ANSWERS), 6)
    head.norm = torch.nn.Identity()  # type: ignore[assignment]
    torch.nn.init.eye_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    wanted = torch.from_numpy(classes(random_scene("known")))[None]
    starts = torch.tensor([0, *ANSWERS[:-1]]).cumsum(0)
    logits = torch.zeros(1, 9, sum(ANSWERS))
    for cell in range(9):
        for start, answer in zip(starts.tolist(), wanted[0, cell].tolist(), strict=True):
            if answer != UNASKED:
                logits[0, cell, start + answer] = 30
    patches = logits[:, cells_of(6)]
    assert head.loss(patches, wanted) < 1e-6
    assert set(head.right(patches, wanted).values()) == {1.0}
    assert head.loss(-patches, wanted) > 10
