"""Tokens are counted as the student's text encoder sees them: start and end included, nothing cut off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from curation.caption.tokens import TokenCounter, split_name
from curation.errors import ConfigError, CurationError


def test_counts_hold_start_and_end_and_go_beyond_the_limit(clip_folder: Path) -> None:
    counter = TokenCounter(str(clip_folder))
    counter.check(online=False)
    counter.setup()
    nothing, one, many = counter.count(["", "red", "red " * 200])
    assert (nothing, many) == (2, 202)
    assert one == 3
    assert counter.count([]) == []


def test_names_of_folders_within_a_repository(tmp_path: Path) -> None:
    assert split_name("openai/clip-vit-large-patch14") == ("openai/clip-vit-large-patch14", "")
    assert split_name("org/sdxl/tokenizer_2") == ("org/sdxl", "tokenizer_2")
    assert split_name("/org/sdxl/tokenizer_2") == ("/org/sdxl/tokenizer_2", "")
    assert split_name("./org/sdxl/tokenizer_2") == ("./org/sdxl/tokenizer_2", "")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert split_name(f"{tmp_path}/a/b") == (f"{tmp_path}/a/b", "")
    counter = TokenCounter("org/sdxl/tokenizer_2")
    counter.check(online=False)
    assert counter.identity() == {"tokenizer": "org/sdxl/tokenizer_2"}


def test_what_is_no_tokenizer_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            TokenCounter(str(path)).check(online=False)
        assert caught.value.path == "stages.caption.tokenizer"
        return caught.value.problem

    assert "no folder" in refused(tmp_path / "none")
    (tmp_path / "sdxl" / "tokenizer_2").mkdir(parents=True)
    assert "it has folders of tokenizers: tokenizer_2" in refused(tmp_path / "sdxl")
    broken = shutil.copytree(clip_folder, tmp_path / "broken")
    for text in ("{", "{}"):
        (broken / "tokenizer.json").write_text(text)
        assert "cannot be loaded" in refused(broken)


def test_identity_is_of_the_files_not_of_the_place(tmp_path: Path, clip_folder: Path) -> None:
    moved = shutil.copytree(clip_folder, tmp_path / "moved")
    assert TokenCounter(str(moved)).identity() == TokenCounter(str(clip_folder)).identity()
    config = json.loads((moved / "tokenizer_config.json").read_text())
    (moved / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 99}))
    assert TokenCounter(str(moved)).identity() != TokenCounter(str(clip_folder)).identity()


@pytest.mark.parametrize("name", ["no-one/no-such-model", "no-one/no-such-model/tokenizer_2"])
def test_a_tokenizer_that_the_hub_does_not_have(name: str) -> None:
    told = r"^stages\.caption\.tokenizer: .* neither a folder here nor to be had from the hub"
    with pytest.raises(CurationError, match=told):  # which of them depends on whether there is a hub
        TokenCounter(name).check(online=True)
