"""A whole ablation, small: two arms, two seeds, a tiny teacher, over a web server on this machine; also when killed."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from curation.ablate.arms import expand, train_config
from curation.ablate.corpora import check_unseen
from curation.ablate.report import write_report
from curation.ablate.students import Student, make_student
from curation.config.ablate import AblateConfig
from curation.config.koala import KoalaSettings
from curation.distill.koala import Koala
from curation.errors import ConfigError, RunError
from curation.load import make
from pipelines.ablate import ablate
from pipelines.ablate_plan import plan_ablation
from pipelines.ablate_plan_text import lines
from tests.ablate.whole import Done, Heard, whole
from tests.journey import curate, curate_done
from tests.small_origin import small_origin

ROWS, MISSING = 60, 6
QUICKER = {"batch": 4, "resolution": 32, "upscale": True, "workers": 1}
"""What the students read, by a process of its own: the same samples."""


@dataclass(frozen=True)
class Origin:
    listed: Path
    asked: list[str]
    """Paths that were asked of it, in order."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    listed = tmp_path_factory.mktemp("origin") / "list.parquet"
    with small_origin(ROWS, listed) as asked:
        yield Origin(listed, asked)


@pytest.fixture(scope="module")
def done(origin: Origin, sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A finished ablation. Who runs on it again must leave it as it was."""
    output = tmp_path_factory.mktemp("ablation")
    config = make(whole(origin.listed, sdxl_folder, output), model=AblateConfig)
    before, heard = len(origin.asked), Heard()
    found = ablate(config, engine="local", watcher=heard)
    return Done(config, found, heard, origin.asked[before:])


def test_each_url_is_fetched_once_for_all_arms(done: Done) -> None:
    assert Counter(Counter(done.requests).values()) == {1: ROWS}


def test_the_arms_are_what_they_were_to_be(done: Done) -> None:
    many, few = done.arms["many-low"], done.arms["few-high"]
    assert (many["samples"], few["samples"]) == (ROWS - MISSING, 12)
    assert (many["resolution"], few["resolution"]) == (8, 32)
    assert many["original"] == few["original"] == pytest.approx((192 * 144) ** 0.5, abs=0.5)
    assert many["steps"] == few["steps"] == 4
    assert many["epochs"] == pytest.approx(16 / 54)
    assert many["caption_words"] == few["caption_words"] == 2  # "picture 7"
    assert many["caption_tokens"] >= 2
    differ = {d["path"]: d["values"] for d in done.found.facts["differences"]}
    assert differ == {
        "stages.pack.buckets": {"many-low": [[8, 8]], "few-high": [[32, 32]]},
        "stages.select.by": {"many-low": None, "few-high": "length(url)"},
        "stages.select.top": {"many-low": None, "few-high": 12},
    }


def test_students_come_pair_by_pair_with_the_same_seeds_and_are_asked_the_same(done: Done) -> None:
    assert done.heard.made == [("many-low", 0), ("few-high", 0), ("many-low", 1), ("few-high", 1)]
    seeds = {name: [student["seed"] for student in arm["students"]] for name, arm in done.arms.items()}
    assert seeds == {"many-low": [0, 1], "few-high": [0, 1]}
    folders = [Path(student["folder"]) for arm in done.arms.values() for student in arm["students"]]
    asked = {json.dumps([e["prompts"], e["seeds"]]) for e in (_evaluation(folder)["results"] for folder in folders)}
    assert len(asked) == 1


def test_all_that_can_be_reached_stands_beside_the_arms(done: Done) -> None:
    references = done.found.facts["references"]
    assert list(references)[:2] == ["teacher", "true pictures"]
    true, reduced = (references[name]["means"] for name in list(references)[1:])
    assert true["rich.share"] > 0.97
    assert reduced["rich.texture"] < 0.7 < true["rich.texture"]
    assert reduced["rich.high_frequency"] < 0.3 < 0.8 < true["rich.high_frequency"]


def test_all_numbers_are_in_the_files(done: Done) -> None:
    found = {**_read(done.config, "result.json"), **_read(done.config, "scores.json")}
    assert found == json.loads(json.dumps(done.found.facts))
    scores = found["scores"]["rich.share"]
    assert [len(scores), len(scores[0]), len(scores[0][0])] == [2, 2, 6]
    assert found["means"]["rich.share"][1][0] == pytest.approx(sum(scores[1][0]) / 6)
    (verdict,) = found["analysis"]["verdicts"]
    assert (verdict["better"], verdict["worse"], verdict["metric"]) == ("few-high", "many-low", "rich.share")
    assert [s["metric"] for s in found["analysis"]["secondaries"]] == ["short.share", "rich.kid"]


def test_the_report_stands_alone_and_begins_with_the_verdict(done: Done) -> None:
    page = Path(done.found.report).read_text(encoding="utf-8")
    text = unescape(page)
    assert done.found.sentences[0] in text
    assert text.index(done.found.sentences[0]) < text.index("<section")
    for section in ("claims", "arms", "differences", "metrics", "secondaries", "pictures", "curves", "settings"):
        assert f'<section id="{section}">' in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    # Six prompts of two kinds, for two arms and three references.
    assert page.count('<img src="data:image/png') == 6 * 2 * 5
    assert "stages.pack.buckets" in page


def test_done_again_it_does_nothing_and_finds_the_same(done: Done, origin: Origin) -> None:
    files = [*Path(done.config.output).glob("students/*/*.json"), *Path(done.config.output).glob("references/*/*.json")]
    before, requests = {file: file.stat().st_mtime_ns for file in files}, len(origin.asked)
    heard = Heard()
    again = ablate(done.config, engine="local", watcher=heard)
    assert heard.done_before == 4
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert len(before) == 4 * 2 + 3
    assert len(origin.asked) == requests
    assert again.facts == done.found.facts


def test_the_plan_of_a_finished_ablation_has_nothing_left(done: Done) -> None:
    found = plan_ablation(done.config)
    assert [(training.done, training.stale) for training in found.trainings] == [(2, 0), (2, 0)]
    told = "\n".join(lines(found))
    assert "to fetch  0 rows" in told
    assert "to train  0 students" in told
    quicker = make({**_given(done), "train": {**_given(done)["train"], "data": QUICKER}}, model=AblateConfig)
    assert [training.done for training in plan_ablation(quicker).trainings] == [2, 2]


def test_students_of_what_the_corpus_was_before_are_refused_before_it_is_made(done: Done) -> None:
    given = _given(done)
    given["arms"]["few-high"]["stages.select.top"] = 11
    changed = make(given, model=AblateConfig)
    found = plan_ablation(changed)
    assert [(training.done, training.stale) for training in found.trainings] == [(2, 0), (0, 2)]
    assert "those of few-high are on other corpora" in "\n".join(lines(found))
    folders = sorted(Path(done.config.output, "data").iterdir())
    with pytest.raises(ConfigError, match=r"students/few-high-0, .*/few-high-1 were trained on another corpus"):
        ablate(changed, engine="local")
    assert sorted(Path(done.config.output, "data").iterdir()) == folders


def test_a_student_that_cannot_go_on_does_not_keep_the_others_from_it(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _given(done)
    given["base"]["output"], given["output"] = f"{done.config.output}/data", str(tmp_path / "out")

    def some_fail(config: AblateConfig, student: Student) -> None:
        if student.pair == 0:
            raise RunError("the loss is nan at step 3")
        make_student(config, student)

    monkeypatch.setattr("pipelines.ablate.make_student", some_fail)
    heard = Heard()
    told = r"2 of the students failed.*many-low-0: the loss is nan at step 3; few-high-0: the"
    with pytest.raises(RunError, match=told):
        ablate(make(given, model=AblateConfig), engine="local", watcher=heard)
    assert heard.made == [("many-low", 1), ("few-high", 1)]


def test_settings_that_were_changed_after_a_look_stand_in_the_report(done: Done, tmp_path: Path) -> None:
    assert "both fixed beforehand" in Path(done.found.report).read_text(encoding="utf-8")
    change = {"path": "verdict.primary", "students": 4, "before": "rich.kid", "now": "rich.share"}
    page = unescape(write_report(tmp_path, {**done.found.facts, "changed": [change]}).read_text(encoding="utf-8"))
    assert "after 4 students were evaluated, <code>verdict.primary</code> became rich.share (it was rich.kid)" in page
    assert "fixed beforehand" not in page.replace("Not fixed beforehand", "")


def test_killed_in_the_middle_it_goes_on_and_comes_to_the_same(
    done: Done, origin: Origin, sdxl_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    config = tmp_path / "ablation.yaml"
    config.write_text(yaml.safe_dump(whole(origin.listed, sdxl_folder, output), sort_keys=False))
    first, second = output / "students/many-low-0/evaluation.json", output / "students/few-high-0/checkpoints"
    process = curate("ablate", config, "--engine", "local")
    try:
        deadline = time.monotonic() + 240
        while not (first.exists() and second.exists()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (output / "result.json").exists()
    kept, requests = first.stat().st_mtime_ns, len(origin.asked)
    code, out, err = curate_done("ablate", config, "--engine", "local")
    assert code == 0, err
    assert done.found.sentences[0] in out
    assert first.stat().st_mtime_ns == kept
    assert len(origin.asked) == requests
    found = json.loads((output / "scores.json").read_text(encoding="utf-8"))
    assert found["scores"] == done.found.facts["scores"]


def test_students_of_a_pair_begin_with_the_same_weights(done: Done) -> None:
    arms = expand(done.config)

    def first(arm: int, pair: int) -> dict[str, torch.Tensor]:
        settings = train_config(done.config, arms[arm], pair, output="o", corpus="c")
        assert isinstance(settings.recipe, KoalaSettings)
        student = settings.recipe.student.model_copy(update={"inherit": False})
        return Koala(settings.recipe.model_copy(update={"student": student}), settings.seed).model.state_dict()

    one, other, next_pair = first(0, 0), first(1, 0), first(0, 1)
    assert all(value.equal(other[name]) for name, value in one.items())
    assert any(not value.equal(next_pair[name]) for name, value in one.items())


def test_prompts_that_students_have_read_are_refused(done: Done) -> None:
    packed = done.arms["many-low"]["packed"]
    check_unseen(packed, ["picture 7000"])
    with pytest.raises(ConfigError, match=r"evaluation\.prompts: 'picture 7' is a caption of"):
        check_unseen(packed, ["a cat", " Picture  7"])


def test_prompts_and_metrics_of_ones_own(done: Done, clip_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red star\n\na blue circle\na red star\n")
    given = _given(done)
    given["base"]["output"] = f"{done.config.output}/data"
    given["output"] = str(tmp_path / "out")
    metrics = [{"name": "clip", "model": str(clip_folder)}]
    given["evaluation"] = {"kind": "models", "prompts": str(prompts), "metrics": metrics}
    given["verdict"] |= {"primary": "clip", "secondaries": []}
    found = ablate(make(given, model=AblateConfig), engine="local")
    assert [prompt["text"] for prompt in found.facts["prompts"]] == ["a red star", "a blue circle"]
    assert len(found.facts["means"]["clip"]) == len(found.facts["means"]["clip"][0]) == 2
    assert list(found.facts["references"]) == ["teacher"]
    prompts.write_text("PICTURE 7\na dog\n")
    with pytest.raises(ConfigError, match=r"evaluation\.prompts: 'picture 7' is a caption"):
        ablate(make(given, model=AblateConfig), engine="local")
    prompts.write_text("a dog\n")
    with pytest.raises(ConfigError, match=r"evaluation\.prompts: .* holds 1 prompts; 2 are fewest"):
        ablate(make(given, model=AblateConfig), engine="local")


def test_a_verdict_about_what_is_not_measured_is_refused_before_any_work(
    origin: Origin, sdxl_folder: Path, tmp_path: Path
) -> None:
    given = whole(origin.listed, sdxl_folder, tmp_path / "out")
    given["verdict"] = {"primary": "rich.beauty", "minimum_effect": 0.1}
    with pytest.raises(ConfigError, match=r"verdict\.primary.*rich\.share"):
        ablate(make(given, model=AblateConfig), engine="local")
    given["verdict"] = {"primary": "rich.share", "minimum_effect": 0.1, "secondaries": ["rich.high_frequency"]}
    with pytest.raises(ConfigError, match=r"verdict\.secondaries\.0.*best at 1"):
        ablate(make(given, model=AblateConfig), engine="local")
    assert not (tmp_path / "out").exists()


def _given(done: Done) -> dict[str, Any]:
    """The settings of `done`, as in its file."""
    given: dict[str, Any] = done.config.model_dump(mode="json", exclude_unset=True)
    return given


def _read(config: AblateConfig, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(config.output) / name).read_text(encoding="utf-8"))
    return found


def _evaluation(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return found
