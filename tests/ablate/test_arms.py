"""Arms of a grid, what differs between them, and equal steps or epochs."""

from __future__ import annotations

from typing import Any

import pytest

from curation.ablate.arms import differences, expand, steps_of, train_config
from curation.errors import ConfigError
from tests.ablate.example import example


def test_a_grid_is_the_product_of_its_factors() -> None:
    arms = {arm.name: arm for arm in expand(example())}
    assert list(arms) == ["task_alone", "few-high", "few-low", "many-high", "many-low"]
    assert arms["many-low"].levels == {"amount": "many", "resolution": "low"}
    assert arms["task_alone"].levels == {}
    found = {name: (arm.curate.sources[0].limit, arm.curate.stages.pack.resolution) for name, arm in arms.items()}
    assert found == {
        "task_alone": (None, 64),
        "few-high": (100, 64),
        "few-low": (100, 16),
        "many-high": (1700, 64),
        "many-low": (1700, 16),
    }
    assert {arm.curate.output for arm in arms.values()} == {"out/data"}, "stages are shared"
    assert {arm.curate.name for arm in arms.values()} == {"test"}


def test_differences_are_those_of_whole_settings() -> None:
    config = example(
        arms={
            "plain": {"stages.pack.resolution": 64},  # what the base says
            "other": {
                "train.optimizer.warmup": 0,
                "train.data.captions": {"alt": 1.0},
                "stages.score": {"ops": ["sharpness"]},
            },
        },
        grid={},
        verdict={"primary": "x", "minimum_effect": 1},
    )
    plain, other = expand(config)
    found = {difference.path: difference.values for difference in differences([plain, other])}
    assert found["train.optimizer.warmup"] == {"plain": 10, "other": 0}
    assert found["train.data.captions.primary"] == {"plain": 1.0}, "the other has no such setting"
    assert found["train.data.captions.alt"] == {"other": 1.0}
    assert found["stages.score"] == {"plain": None}
    assert found["stages.score.ops"] == {"other": ["sharpness"]}, "and the defaults that came with it"
    assert [path for path in found if not path.startswith(("stages.score", "train."))] == []
    assert differences([plain, plain]) == ()
    paths = [difference.path for difference in differences([plain, other])]
    assert paths.index("stages.score") < paths.index("train.optimizer.warmup")


def test_differences_of_a_grid() -> None:
    arms = expand(example(arms={}))
    assert {difference.path: tuple(difference.values.values()) for difference in differences(arms)} == {
        "source.limit": (100, 100, 1700, 1700),
        "stages.pack.resolution": (64, 16, 64, 16),
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"arms": {"a": {"stages.pack.resolutoin": 5}}},
            "arms.a.stages.pack.resolutoin: unknown setting; did you mean 'resolution'? (in arm 'a')",
        ),
        (
            {"grid": {"x": {"l": {"train.loop.steps": 0}, "m": {}}}},
            "grid.x.l.train.loop.steps: Input should be greater than or equal to 1",
        ),
        ({"base": {"source": {"kind": "txt"}}, "grid": {"x": {"l": {}, "m": {}}}}, "base.source.path: is required"),
        (
            {"train": {"recipe": {"kind": "koala", "teacher": {"model": "m"}}, "data": {"batch": 8}}},
            "train.loop: is required",
        ),
        (
            {"arms": {"a": {"train.data.captions": {"alt": 1, "shrot": 1, "dense": 0}}}},
            "arms.a.train.data.captions.shrot: the corpus has no such captions; there is primary, empty, alt (in arm",
        ),
        ({"arms": {"a": {"train.output": "x"}}}, "arms.a.train.output: is decided by the ablation"),
        ({"arms": {"a": {"train.data.corpora.0.path": "x"}}}, "arms.a.train.data.corpora.0.path: is decided by"),
        ({"arms": {"a": {"train": {}}}}, "arms.a.train: is no dotted path"),
        ({"train": {"seed": 3}}, "train.seed: is decided by the ablation"),
        ({"base": {"name": "x"}}, "base.name: is decided by the ablation"),
        ({"arms": {"a": {"source.path.x": 1}}}, "arms.a.source.path.x: is the value 'list.parquet' and has no"),
        ({"run": {"workers": 3}}, "train.data.batch: 8 samples cannot be shared out to the 3 of `run.workers`"),
        (
            {"grid": {"x": {"l": {"stages.pack": {}}, "m": {}}, "y": {"o": {"stages.pack.resolution": 5}, "p": {}}}},
            "grid.y.o.stages.pack.resolution: is overridden by grid.x.l.stages.pack too",
        ),
    ],
    ids=[
        "key",
        "value",
        "base",
        "train",
        "captions",
        "output",
        "corpora",
        "all",
        "seed",
        "name",
        "through",
        "ranks",
        "twice",
    ],
)
def test_wrong_arms_are_named_where_they_stand(changed: dict[str, Any], message: str) -> None:
    config = example(**{"verdict": {"primary": "x", "minimum_effect": 1}, **changed})
    with pytest.raises(ConfigError) as caught:
        expand(config)
    assert str(caught.value).startswith(message)


def test_pairs_of_students_share_their_seed() -> None:
    config = example(seed=40)
    arms = expand(config)
    trained = [train_config(config, arm, 2, output=f"o/{arm.name}", corpus=f"c/{arm.name}") for arm in arms]
    assert {one.seed for one in trained} == {42}
    assert trained[0].output == "o/task_alone"
    assert [corpus.path for corpus in trained[0].data.corpora] == ["c/task_alone"]
    assert trained[0].recipe == arms[0].train.recipe
    shorter = train_config(config, arms[0], 0, output="o", corpus="c", steps=50)
    assert (shorter.loop.steps, shorter.optimizer.warmup) == (50, 5)


def test_equal_epochs_are_as_many_as_the_arm_makes_that_makes_fewest() -> None:
    samples = {"task_alone": 1700, "few-high": 100, "few-low": 100, "many-high": 1700, "many-low": 1600}
    steps = example()
    assert set(steps_of(steps, expand(steps), samples, {}).values()) == {100}
    epochs = example(fairness="equal_epochs")
    found = steps_of(epochs, expand(epochs), samples, {})
    # 100 steps of 8 are 8/17 of an epoch of 1,700; of 100 samples that is 47 samples, 6 steps
    assert found == {"task_alone": 100, "few-high": 6, "few-low": 6, "many-high": 100, "many-low": 94}
    with pytest.raises(ValueError, match="arms without samples: few-low"):
        steps_of(epochs, expand(epochs), samples | {"few-low": 0}, {})


def test_steps_that_are_not_equal_are_not_called_so() -> None:
    arms = {"x1": {}, "x4": {"train.loop.steps": 400}}
    with pytest.raises(ConfigError, match=r"fairness: steps are not equal \(x1 100 × 8, x4 400 × 8\)"):
        expand(example(arms=arms, grid={}, verdict={"primary": "rich.share", "minimum_effect": 0.1}))
    larger = {"x1": {}, "x4": {"train.loop.accumulate": 4}}
    with pytest.raises(ConfigError, match=r"x4 100 × 32\)"):
        expand(example(arms=larger, grid={}, verdict={"primary": "rich.share", "minimum_effect": 0.1}))
    config = example(arms=arms, grid={}, fairness="as_set", verdict={"primary": "rich.share", "minimum_effect": 0.1})
    assert steps_of(config, expand(config), {}, {}) == {"x1": 100, "x4": 400}


def test_equal_flops_are_as_many_as_the_arm_spends_that_spends_fewest() -> None:
    config = example(
        fairness="equal_flops",
        arms={"large": {}, "small": {"train.data.batch": 4}, "short": {"train.loop.steps": 30}},
        grid={},
        verdict={"primary": "x", "minimum_effect": 1},
    )
    # a step costs 8 × 50, 4 × 10 and 8 × 20; 100, 100 and 30 steps spend 40,000, 4,000 and 4,800
    found = steps_of(config, expand(config), {}, {"large": 50, "small": 10, "short": 20})
    assert found == {"large": 10, "small": 100, "short": 25}


def test_expanding_leaves_the_settings_alone() -> None:
    config = example()
    before = config.model_dump()
    expand(config)
    assert config.model_dump() == before
