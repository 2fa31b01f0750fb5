"""A model that was trained again in the same place has another signature, however little of it is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from curation.model_signature import WHOLE, file_signature, model_signature

LARGE = WHOLE // 4 + 1000
"""Numbers of a tensor that makes its file too large to be read whole."""


def weights(folder: Path, small: float = 0.0, large: float = 0.0, name: str = "model.safetensors") -> str:
    """The signature of a file of four tensors; `small` of ten numbers stands between large ones."""
    tensors = {f"layer.{i}": np.zeros(LARGE, np.float32) for i in range(3)}
    tensors["layer.1.bias"] = np.full(10, small, np.float32)
    tensors["layer.1"][:] = large
    save_file(tensors, folder / name)
    return file_signature("a", str(folder / name))


def test_each_tensor_counts(tmp_path: Path) -> None:
    plain = weights(tmp_path)
    assert weights(tmp_path) == plain
    assert weights(tmp_path, name="again.safetensors") == plain
    assert weights(tmp_path, small=1) != plain
    assert weights(tmp_path, large=1) != plain


@pytest.mark.parametrize(
    "header",
    [
        b"\0" * 8,
        b"\xff" * 8,
        (9).to_bytes(8, "little") + b'{"a": {}}',
        (34).to_bytes(8, "little") + b'{"a": {"data_offsets": [1e999, 0]}}',
        b"{}",
    ],
)
def test_large_files_of_any_format(header: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(header + bytes(WHOLE))
    plain = file_signature("a", str(file))
    with file.open("r+b") as opened:
        opened.seek(-1, 2)
        opened.write(b"1")
    assert file_signature("a", str(file)) != plain
    assert model_signature("a", str(tmp_path)) == {file.name: file_signature("a", str(file))}
