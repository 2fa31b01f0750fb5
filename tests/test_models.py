"""What is wrong with a model is said in one line, before any work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.errors import ConfigError
from curation.models import check_model, device_and_dtype, is_local, load_options, located

SETTING = "stages.caption.model"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def problem(model: Path | str) -> str:
    """What `check_model` has against it."""
    with pytest.raises(ConfigError) as caught:
        check_model(SETTING, str(model), None, online=False)
    assert caught.value.path == SETTING
    assert "\n" not in caught.value.problem
    return caught.value.problem


@pytest.fixture
def folder(llava_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model."""
    return shutil.copytree(llava_folder, tmp_path / "model")


def with_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_good_model_is_taken_and_its_configuration_returned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = check_model(SETTING, str(folder), None, online=False)
    assert config is not None
    assert config["model_type"] == "llava"
    monkeypatch.setenv("HOME", str(folder.parent))
    assert check_model(SETTING, "~/model", None, online=False) == config
    assert located("~/model") == str(folder)


def test_folders_and_names_are_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(is_local, (str(folder), "/no/such/folder", "./model", "../x/y", "~/model", "a/b/c", ".hidden")))
    assert not any(map(is_local, ("org/name-1.5_hf", "gpt2", "a1/b.c")))
    monkeypatch.chdir(folder.parent)
    assert is_local("model")
    assert located("org/name") == "org/name"
    assert check_model(SETTING, "org/name", None, online=False) is None


def test_a_missing_folder(tmp_path: Path) -> None:
    assert problem(tmp_path / "gone") == f"no folder {tmp_path / 'gone'}"


def test_a_file_in_a_folders_place(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert problem(tmp_path / "model.bin") == f"{tmp_path / 'model.bin'} is a file; a model is a folder"


def test_no_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "holds no config.json" in problem(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "names no `model_type`"),
        ('{"model_type": 3}', "names no `model_type`"),
        ("{}", "names no `model_type`"),
    ],
)
def test_a_broken_configuration(folder: Path, text: str, said: str) -> None:
    (folder / "config.json").write_text(text)
    assert said in problem(folder)


def test_a_configuration_that_is_no_text(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in problem(folder)


def test_code_of_its_own_is_not_run(folder: Path) -> None:
    with_config(folder, model_type="own_vlm", auto_map={"AutoModel": "modeling.OwnVlm"})
    (folder / "modeling.py").write_text("raise SystemExit('this code ran')")
    assert problem(folder).endswith("is of type 'own_vlm', which needs code from its own folder, which is never run")


def test_an_unknown_type(folder: Path) -> None:
    with_config(folder, model_type="llava_of_2031")
    assert "'llava_of_2031', which is not known here" in problem(folder)


def test_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert problem(folder) == f"{folder} holds no safetensors"


def test_pickled_weights_alone(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    assert problem(folder) == f"{folder} holds no safetensors (pickles are never loaded)"


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-10], lambda data: data[:40], lambda data: b"", lambda data: b"\xff" * 64]
)
def test_truncated_weights(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    (folder / WEIGHTS).write_bytes(spoil((folder / WEIGHTS).read_bytes()))
    assert f"{folder / WEIGHTS} is damaged" in problem(folder)


def test_a_shard_that_is_missing(folder: Path) -> None:
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / WEIGHTS).rename(folder / weights["a"])
    (folder / INDEX).write_text(json.dumps({"weight_map": weights}))
    assert problem(folder) == f"{folder} lacks model-00002-of-00002.safetensors, which its index names"
    shutil.copy(folder / weights["a"], folder / weights["b"])
    assert check_model(SETTING, str(folder), None, online=False)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"weight_map": 3}'])
def test_a_broken_index(folder: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    assert "cannot be read" in problem(folder)


def test_packages_that_are_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert problem(folder) == "needs transformers, of the extra `models`: pip install 'curation[models]'"


def test_a_hub_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code = f"""
from curation.models import check_model
from curation.errors import StorageError
try:
    check_model({SETTING!r}, "org/model", "abc", online=True)
except StorageError as error:
    print(error)
"""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nowhere, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"{SETTING}: org/model is neither a folder here nor to be had from the hub: ")
    assert done.stdout.count("\n") == 1
    assert "Retry" not in done.stderr  # it would try for half a minute


def test_a_configuration_in_the_hubs_cache_needs_no_hub(folder: Path, tmp_path: Path) -> None:
    commit = "0" * 40
    cached = tmp_path / "hub" / "models--org--model"
    snapshot = cached / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    shutil.copy(folder / "config.json", snapshot)
    code = f"""
from curation.models import check_model
print(check_model({SETTING!r}, "org/model", None, online=True)["model_type"])
"""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nowhere, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("llava\n", 0), done.stderr


def test_models_are_loaded_from_safetensors_without_code() -> None:
    assert load_options("abc") == {"revision": "abc", "use_safetensors": True, "trust_remote_code": False}
    assert load_options(None)["revision"] == "main"


def test_the_cpu_computes_in_single_precision() -> None:
    import torch

    assert device_and_dtype(0) == (torch.device("cpu"), torch.float32)
