"""A wrong setting is refused by name, with what was given and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.config import Config
from curation.errors import ConfigError
from curation.fingerprint import result_settings
from curation.load import load_config, load_train_config, make, make_config


def minimal(**stages: Any) -> dict[str, Any]:
    return {
        "name": "test",
        "output": "out",
        "source": {"kind": "parquet", "path": "list.parquet"},
        "stages": stages,
    }


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        make_config(data)
    return str(caught.value)


def test_minimal_config_has_defaults() -> None:
    config = make_config(minimal())
    assert config.stages.fetch.engine == "async"
    assert config.stages.score is None
    assert [s.name for s in config.sources] == ["default"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"fetch": {"min_sid": 3}}, "stages.fetch.min_sid: unknown setting; did you mean 'min_side'?"),
        (
            {"fetch": {"run": {"concurency": 3}}},
            "stages.fetch.run.concurency: unknown setting; did you mean 'concurrency'?",
        ),
        ({"fetchh": {}}, "stages.fetchh: unknown setting; did you mean 'fetch'?"),
        ({"fetch": {"zzz": 1}}, "stages.fetch.zzz: unknown setting; allowed here: engine, min_side"),
        ({"fetch": {"timeout_s": -1}}, "stages.fetch.timeout_s: Input should be greater than 0 (given: -1)"),
        ({"fetch": {"max_bytes": "10 parsecs"}}, "stages.fetch.max_bytes: '10 parsecs' is no size"),
        (
            {"fetch": {"engine": "curl"}},
            "stages.fetch.engine: Input should be 'async' or 'img2dataset' (given: 'curl')",
        ),
        ({"fetch": {"allow_networks": ["here"]}}, "stages.fetch.allow_networks: 'here' does not appear to be"),
        ({"select": {"top": 5}}, "stages.select: `top` and `by` go together"),
        ({"pack": {"shard_bytes": "5MB", "shard_samples": 4}}, "stages.pack: set `shard_bytes` or `shard_samples`"),
        ({"pack": {"buckets": [[4, 4]]}}, "stages.pack.buckets"),
        (
            {"caption": {"model": "m", "max_tokens": {"dense": 0}}},
            "stages.caption.max_tokens.dense: Input should be greater than 0 (given: 0)",
        ),
        ({"caption": {"model": "m"}}, "stages: `pack.primary` must say which caption becomes UID.txt: dense or alt"),
    ],
)
def test_wrong_stage_settings(stages: dict[str, Any], message: str) -> None:
    assert refused(minimal(**stages)).startswith(message)


def test_wrong_source() -> None:
    data = minimal()
    data["source"] = {"kind": "parquet"}
    assert refused(data) == "source.path: is required"
    data["source"] = {"kind": "parquet", "path": "x", "colums": {}}
    assert refused(data).startswith("source.colums: unknown setting; did you mean 'columns'?")
    data["source"] = {"kind": "exel", "path": "x"}
    assert refused(data).startswith("source.kind: Input should be 'parquet'")
    data["source"] = {"kind": "parquet", "path": "x", "columns": {"keep": ["sha256", "ok"]}}
    assert "sha256 would clash" in refused(data)
    data["source"] = {"kind": "parquet", "path": "x", "columns": {"keep": ["b", "a", "a"]}}
    assert "'a' is named twice" in refused(data)
    data["source"] = [{"kind": "parquet", "path": "x"}, {"kind": "txt", "path": "y"}]
    assert "each source needs a name of its own; used twice: default" in refused(data)
    data["source"] = [{"name": "a", "kind": "parquet", "path": "x"}, {"name": "b", "kind": "parquet", "pth": "x"}]
    assert refused(data).startswith("source.1.pth: unknown setting; did you mean 'path'?")


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


GOOD = "name: a\noutput: o\nsource: {kind: txt, path: l.txt}\nstages:\n  fetch: {min_side: 512}\n"


def test_overrides_have_the_same_validation(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = load_config(path, ["stages.fetch.min_side=1024", "stages.select.where=width > 3", "seed=7"])
    assert (config.stages.fetch.min_side, config.stages.select.where, config.seed) == (1024, "width > 3", 7)
    for override, message in [
        ("stages.fetch.min_sde=1", "stages.fetch.min_sde: unknown setting; did you mean 'min_side'?"),
        ("stages.fetch.min_side=a lot", "stages.fetch.min_side: Input should be a valid integer"),
        ("stages.fetch", "--set: 'stages.fetch' is not of the form"),
        ("name.x=1", "name: is the value 'a' and has no setting 'x'"),
        ("stages.fetch.min_side=[", "stages.fetch.min_side: the value '[' is not YAML"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_config(path, [override])
        assert str(caught.value).startswith(message)


def test_override_in_a_list_of_sources(tmp_path: Path) -> None:
    text = "name: a\noutput: o\nsource: [{name: x, kind: txt, path: l.txt}, {name: y, kind: txt, path: m.txt}]\n"
    config = load_config(write(tmp_path, text), ["source.1.path=n.txt"])
    assert [s.path for s in config.sources] == ["l.txt", "n.txt"]
    with pytest.raises(ConfigError, match="is a list of 2"):
        load_config(tmp_path / "config.yaml", ["source.5.path=n.txt"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: [", "is not YAML"), ("- a", "must hold settings"), ("", "must hold settings"), (None, "not found")],
)
def test_wrong_file(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "none.yaml" if text is None else write(tmp_path, text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_speed_settings_are_no_part_of_the_result() -> None:
    slow = make_config(minimal(fetch={"run": {"concurrency": 1}})).stages.fetch
    fast = make_config(minimal(fetch={"run": {"concurrency": 99}})).stages.fetch
    other = make_config(minimal(fetch={"min_side": 3})).stages.fetch
    assert result_settings(slow) == result_settings(fast) != result_settings(other)


def test_sizes_that_no_vae_takes_are_found_before_any_work() -> None:
    encode = {"model": "sdxl"}
    with pytest.raises(ConfigError, match=r"need `pack\.buckets`, or `encode\.resolution`"):
        make_config(minimal(pack={"buckets": "none"}, encode=encode))
    make_config(minimal(pack={"buckets": "none"}, encode={**encode, "resolution": 512}))


def test_trainings_load_by_the_same_rules(tmp_path: Path) -> None:
    text = "name: a\noutput: o\nrecipe: {kind: koala, teacher: {model: m}}\ndata: {batch: 4}\nloop: {steps: 9}\n"
    path = write(tmp_path, text)
    config = load_train_config(path, ["recipe.losses.features=0", "data.corpora=[{path: c}]"])
    assert (config.recipe.losses.features, config.data.corpora[0].path, config.loop.steps) == (0, "c", 9)
    for override, message in [
        ("recipe.losses.featurs=1", "recipe.losses.featurs: unknown setting; did you mean 'features'?"),
        ("data.corpora=[{pth: c}]", "data.corpora.0.pth: unknown setting; did you mean 'path'?"),
        ("ema.decai=1", "ema.decai: unknown setting; did you mean 'decay'?"),
        ("optimizer.warmup=10", "`optimizer.warmup` is longer than the 9 steps"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_train_config(path, [override])
        assert str(caught.value).startswith(message)


def test_a_setting_inside_a_larger_file_has_its_whole_path() -> None:
    with pytest.raises(ConfigError) as caught:
        make(minimal(fetch={"min_sid": 3}), model=Config, under="base")
    assert str(caught.value) == "base.stages.fetch.min_sid: unknown setting; did you mean 'min_side'?"


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: x\noutput: o\nstages: {}\nsource: {kind: txt, path: a}\nstages: {pack: {}}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml is not YAML: 'stages' stands twice, again in line 5"):
        load_config(path)
    path.write_text("base: &b {kind: txt}\nname: x\noutput: o\nsource: {<<: *b, path: a}\n")
    with pytest.raises(ConfigError, match="base: unknown setting"):  # merged keys are none that stand twice
        load_config(path)


@pytest.mark.parametrize(
    ("text", "loader", "said"),
    [
        ("recipe: {kind: koala}", load_config, "the settings of a training, for train_hook.py"),
        ("arms: {a: {}, b: {}}", load_config, "the settings of an ablation"),
        ("source: {kind: txt, path: a}", load_train_config, "the settings of a curation"),
    ],
)
def test_a_file_of_another_kind_is_told_by_its_kind(tmp_path: Path, text: str, loader: Any, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"name: x\n{text}\n")
    with pytest.raises(ConfigError, match=said):
        loader(path)


def test_a_glob_is_no_alias(tmp_path: Path) -> None:
    path = write(tmp_path, "{}")
    path.write_text(yaml.safe_dump(minimal()))
    assert load_config(path, ["source.path=*.csv"]).sources[0].path == "*.csv"


def test_yamls_no_is_a_precision(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    recipe = "recipe: {kind: koala, teacher: {model: m}}"
    path.write_text(f"name: x\noutput: o\n{recipe}\ndata: {{batch: 2}}\nloop: {{steps: 1, precision: no}}\n")
    assert load_train_config(path).loop.precision == "no"


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        ("{primary: 0}", "data: `captions` needs weights"),
        ("{primary: -1}", "data: `captions` needs weights"),
        ("{primary: .inf}", r"data\.captions\.primary: Input should be a finite number"),
    ],
)
def test_captions_of_a_training_have_weights(tmp_path: Path, captions: str, said: str) -> None:
    path = tmp_path / "train.yaml"
    recipe = "recipe: {kind: koala, teacher: {model: m}}"
    path.write_text(f"name: x\noutput: o\n{recipe}\ndata: {{batch: 2, captions: {captions}}}\nloop: {{steps: 1}}\n")
    with pytest.raises(ConfigError, match=said):
        load_train_config(path)
