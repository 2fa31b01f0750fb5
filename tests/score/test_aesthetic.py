"""`aesthetic`: LAION's released head and small ones in its layout; formats; what is no head is refused.

Tolerances. Multiplied-out float64 against the layers in float32: 1e-4 of a score from 1 to 10.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.config import HeadSettings, ModelSettings
from curation.errors import ConfigError
from curation.score.aesthetic import Aesthetic, load_head
from curation.score.clip import Clip
from tests.shared import shared
from tests.tiny_models import CLIP_WIDTH

SETTING = "stages.score.aesthetic"
RELEASED = "sac+logos+ava1-l14-linearMSE.pth"


def head(widths: tuple[int, ...]) -> Any:
    """LAION's layout (improved-aesthetic-predictor): linear layers with dropout between them."""
    import torch

    torch.manual_seed(3)
    layers: list[Any] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += [torch.nn.Linear(a, b), *([torch.nn.Dropout(0.1)] if i < 3 else [])]
    model = torch.nn.Module()
    model.layers = torch.nn.Sequential(*layers)
    return model.eval()


def scored(path: Path, embeddings: np.ndarray, clip_folder: Path) -> np.ndarray:
    operator = Aesthetic(
        HeadSettings(model=str(path)), Clip("stages.score.clip", ModelSettings(model=str(clip_folder)))
    )
    operator.check(online=False)
    operator.setup()
    flat = pa.array(embeddings.astype(np.float16).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    return operator.process(pa.table({"clip_embedding": column}))["aesthetic"].to_numpy()


def unit(count: int, width: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def check_against_torch(path: Path, model: Any, width: int, clip_folder: Path) -> np.ndarray:
    import torch

    embeddings = unit(20, width)
    with torch.inference_mode():
        expected = model.layers(torch.from_numpy(embeddings))[:, 0].numpy()
    found = scored(path, embeddings, clip_folder)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    return found


def test_the_released_head(tmp_path: Path, clip_folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = shared("aesthetic") / RELEASED
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = head((768, 1024, 128, 64, 16, 1))
    model.load_state_dict(state)
    found = check_against_torch(path, model, 768, clip_folder)
    assert np.ptp(found) > 0.1
    save_file(state, tmp_path / "head.safetensors")
    np.testing.assert_array_equal(scored(tmp_path / "head.safetensors", unit(20, 768), clip_folder), found)


@pytest.mark.parametrize("widths", [(CLIP_WIDTH, 1), (CLIP_WIDTH, 8, 4, 1), (CLIP_WIDTH, 64, 32, 16, 8, 1)])
def test_heads_of_other_sizes(tmp_path: Path, clip_folder: Path, widths: tuple[int, ...]) -> None:
    import torch

    model = head(widths)
    torch.save(model.state_dict(), tmp_path / "head.pth")
    check_against_torch(tmp_path / "head.pth", model, CLIP_WIDTH, clip_folder)


def test_a_score_is_the_same_in_any_batch(tmp_path: Path, clip_folder: Path) -> None:
    import torch

    torch.save(head((CLIP_WIDTH, 8, 1)).state_dict(), tmp_path / "head.pth")
    embeddings = unit(20, CLIP_WIDTH)
    whole = scored(tmp_path / "head.pth", embeddings, clip_folder)
    single = [scored(tmp_path / "head.pth", embeddings[i : i + 1], clip_folder)[0] for i in range(20)]
    np.testing.assert_array_equal(whole, single)


def test_a_head_for_another_clip_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    import torch

    torch.save(head((768, 8, 1)).state_dict(), tmp_path / "head.pth")
    clip = Clip("stages.score.clip", ModelSettings(model=str(clip_folder)))
    clip.check(online=False)
    with pytest.raises(ConfigError, match=rf"takes embeddings of 768 numbers; those of .* have {CLIP_WIDTH}") as caught:
        Aesthetic(HeadSettings(model=str(tmp_path / "head.pth")), clip).check(online=False)
    assert caught.value.path == SETTING


class Opens:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def _damaged(path: Path) -> None:
    import torch

    torch.save(head((CLIP_WIDTH, 8, 1)).state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"layers.0.weight": Opens(path.with_name("ran"))}, protocol=2))


def _saved(state: Callable[[], dict[str, Any]]) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        import torch

        torch.save(state(), path)

    return save


def _gap() -> dict[str, Any]:
    return {k: v for k, v in head((CLIP_WIDTH, 8, 4, 1)).state_dict().items() if not k.startswith("layers.2.")}


def _nan() -> dict[str, Any]:
    return {k: v * float("nan") for k, v in head((CLIP_WIDTH, 1)).state_dict().items()}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no file"),
        (_damaged, "holds no weights that can be loaded"),
        (_code, "holds no weights that can be loaded"),
        (lambda path: path.write_bytes(b""), "holds no weights that can be loaded"),
        (_saved(lambda: head((CLIP_WIDTH, 8, 2)).state_dict()), "no stack of linear layers that ends in one number"),
        (_saved(_gap), "no stack of linear layers that ends in one number"),
        (_saved(dict), "no stack of linear layers that ends in one number"),
        (_saved(_nan), "not finite"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_head_is_refused(tmp_path: Path, write: Callable[[Path], None], message: str, suffix: str) -> None:
    path = tmp_path / f"head{suffix}"
    write(path)
    if suffix == ".safetensors" and message != "no file":
        message = "holds no weights that can be loaded"  # whatever torch wrote is none of those
    with pytest.raises(ConfigError, match=message) as caught:
        load_head(str(path))
    assert caught.value.path == SETTING
    assert not (tmp_path / "ran").exists()
