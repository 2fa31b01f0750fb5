"""Settings of an ablation are checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.ablate.arms import expand, load_ablate_config
from curation.config.ablate import AblateConfig
from curation.errors import ConfigError
from curation.load import make
from tests.ablate.example import settings

VERDICT = {"primary": "rich.share", "minimum_effect": 0.03}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": {}, "grid": {}, "verdict": VERDICT}, "there are no two arms to compare"),
        ({"grid": {"x": {"one": {}}}, "verdict": VERDICT}, "`grid.x` has no two levels"),
        ({"arms": {"few-low": {}}}, "two arms have the same name"),
        ({"arms": {"a b": {}}}, "'a b' cannot be a name"),
        ({"verdict": VERDICT | {"claims": [{"better": "few-hgh", "worse": "many-low"}]}}, "no arm 'few-hgh'"),
        (
            {"verdict": VERDICT | {"claims": [{"factor": "resolution", "better": "many", "worse": "low"}]}},
            "no level of resolution 'many'; there is high, low",
        ),
        ({"verdict": VERDICT | {"claims": [{"factor": "f", "better": "a", "worse": "b"}]}}, "no factor 'f'"),
        ({"verdict": VERDICT | {"claims": [{"better": "few-low", "worse": "few-low"}]}}, "is compared with itself"),
        ({"verdict": VERDICT | {"secondaries": ["rich.share"]}}, "`verdict.primary` is among the `secondaries`"),
        ({"verdict": {"primary": "x"}}, "verdict.minimum_effect: is required"),
        ({"seeds": 1}, "seeds: Input should be greater than or equal to 2"),
        (
            {"evaluation": {"kind": "scenes", "prompt": 3}},
            "evaluation.prompt: unknown setting; did you mean 'prompts'?",
        ),
        (
            {"evaluation": {"kind": "models", "prompts": "p.txt", "metrics": [{"name": "kid", "model": "m"}]}},
            "evaluation: `cmmd` and `kid` need `reference`",
        ),
        (
            {"evaluation": {"kind": "models", "prompts": "p.txt", "metrics": [{"name": "clip", "modle": "m"}]}},
            "evaluation.metrics.0.modle: unknown setting; did you mean 'model'?",
        ),
        ({"evaluation": {"kind": "scenes", "asked": ["rich", "rich"]}}, "the same prompts would count twice"),
        ({"run": {"workers": 2, "gpus": 0.5}}, "run: each process of a job takes a GPU or none"),
        ({"run": {"gpus": 2}}, "run: one process uses one GPU, not 2"),
        ({"evaluation": {"kind": "scene"}}, "evaluation: Input tag 'scene' found using 'kind' does not match"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_wrong_settings(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(settings(**changed), model=AblateConfig)
    assert message in str(caught.value)


def test_a_file_and_overrides_of_overrides(tmp_path: Path) -> None:
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(settings(), sort_keys=False))
    config = load_ablate_config(path, ["seeds=3", "grid.resolution.low.stages.pack.resolution=32"])
    assert config.seeds == 3
    assert {arm.curate.stages.pack.resolution for arm in expand(config)} == {64, 32}
    arm = "arms.task_alone.stages.fetch.retries=7"
    alone = expand(load_ablate_config(path, [arm]))[0]
    assert (alone.curate.stages.fetch.retries, alone.curate.stages.fetch.min_side) == (7, 64), "the rest of it stays"
    with pytest.raises(ConfigError, match=r"arms: has none of the name .*'task_alnoe\.seed' begins: task_alone"):
        load_ablate_config(path, ["arms.task_alnoe.seed=3"])
    path.write_text(yaml.safe_dump(settings(arms={"v1": {}, "v1.5": {}}), sort_keys=False))
    dotted = load_ablate_config(path, ["arms.v1.5.train.optimizer.warmup=3"])
    assert [arm.train.optimizer.warmup for arm in expand(dotted)][:2] == [10, 3]
    with pytest.raises(ConfigError, match=r"arms\.task_alone\.stages: is no dotted path"):
        load_ablate_config(path, ["arms.task_alone={stages: {pack: {}}}"])
    with pytest.raises(ConfigError, match=r"grid\.resolution\.low\.stages\.pack\.side: unknown setting"):
        load_ablate_config(path, ["grid.resolution.low={stages.pack.side: 3}"])
