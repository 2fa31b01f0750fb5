"""Models that cannot caption are refused, before any work where that can be told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from curation.caption.with_transformers import TransformersBackend
from curation.config import CaptionSettings
from curation.errors import ConfigError, RunError
from tests.caption.test_with_transformers import opened


def test_a_model_that_does_not_caption_is_refused_before_any_work(clip_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ConfigError) as caught:
        TransformersBackend(CaptionSettings(model=str(folder))).check(online=False)
    assert caught.value.path == "stages.caption.model"
    assert "'clip', which writes no text about images" in caught.value.problem


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("tokenizer.json", "{", "the processor of .* cannot be used"),
        ("tokenizer.json", None, "the processor of .* cannot be used"),
        ("processor_config.json", "[]", "the processor of .* cannot be used"),
        ("processor_config.json", None, "the processor of .* cannot be used"),
        ("chat_template.jinja", "{{ raise_exception('only for two') }}", "only for two"),
        ("chat_template.jinja", None, "has no chat template"),
    ],
)
def test_a_model_that_cannot_be_asked_is_refused_before_any_work(
    llava_folder: Path, tmp_path: Path, file: str, text: str | None, said: str
) -> None:
    folder = shutil.copytree(llava_folder, tmp_path / "llava")
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    backend = TransformersBackend(CaptionSettings(model=str(folder)))
    with pytest.raises(ConfigError, match=said) as caught:
        backend.check(online=False)
    assert caught.value.path == "stages.caption.model"
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_answer_fails_in_setup(llava_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava_folder, tmp_path / "llava")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_token_index": 3}))
    with pytest.raises(RunError, match="cannot be used") as caught, opened(folder):
        pass
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_tensor_are_refused(llava_folder: Path, tmp_path: Path) -> None:
    """Random numbers in its place would write fluent captions of other pictures."""
    folder = shutil.copytree(llava_folder, tmp_path / "llava")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "projector" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"the weights of .* lack .*projector"), opened(folder):
        pass


def test_gpus_that_are_not_there(llava_folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    backend = TransformersBackend(CaptionSettings(model=str(llava_folder), run={"gpus": 1}))
    with pytest.raises(ConfigError, match=r"stages\.caption\.run\.gpus: 1 GPUs a worker"):
        backend.setup(workers=1)
