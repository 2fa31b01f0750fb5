"""What a model's files hold, in a few bytes: part of the identity of stages that use it, so that a model that was
trained again under the same path does not pass for the one of yesterday. Score and caption ask when they are made.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

from curation.errors import ConfigError
from curation.models import is_local

WHOLE = 16 << 20
"""Bytes of a file that is read whole."""
STRIDE, PIECE = 1 << 20, 4096
"""Of a larger file a piece is read at each stride, and one at the start of each tensor; bytes."""
MOST_HEADER = 100_000_000
"""Bytes that tell of a file's tensors, as `safetensors` allows them."""
_SUFFIXES = {".json", ".jinja", ".model", ".safetensors", ".tiktoken", ".txt"}


def file_signature(setting: str, path: str) -> str:
    """SHA-256 of a file's size and of its content, of large files of a piece of each tensor. Raises ConfigError."""
    try:
        with open(Path(path).expanduser(), "rb") as file:
            return _digest(file)
    except OSError as error:
        raise ConfigError(setting, f"cannot read {path}: {error.strerror or error}") from None


def model_signature(setting: str, model: str) -> dict[str, str] | None:
    """Signatures of the files of a local model by name; None for a model on the hub, which its revision names.

    Files that no loader reads (licences, model cards, weights in other formats) do not count. Raises ConfigError where
    the folder is missing or a file cannot be read.
    """
    if not is_local(model):
        return None
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ConfigError(setting, f"no folder {model}")
    files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    return {file.name: file_signature(setting, str(file)) for file in files}


def _digest(file: BinaryIO) -> str:
    size = file.seek(0, 2)
    digest = hashlib.sha256(str(size).encode())
    starts, piece = (range(0, size, STRIDE), STRIDE) if size <= WHOLE else (_places(file, size), PIECE)
    for start in starts:
        file.seek(start)
        digest.update(file.read(piece))
    return digest.hexdigest()


def _places(file: BinaryIO, size: int) -> list[int]:
    """Where pieces of a large file are read: evenly, and in safetensors at each tensor's start, however small it is."""
    places = {*range(0, size, STRIDE), size - PIECE}
    file.seek(0)
    header = int.from_bytes(file.read(8), "little")
    if header <= min(size - 8, MOST_HEADER):
        try:
            tensors = json.loads(file.read(header))
            places |= {8 + header + int(t["data_offsets"][0]) for name, t in tensors.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
            return sorted(places)  # it is in another format
    return sorted(place for place in places if 0 <= place < size)
