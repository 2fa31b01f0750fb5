"""What a model's files hold, in a few bytes: part of the identity of stages that use it, so that a model that was
trained again under the same path does not pass for the one of yesterday. Score and caption ask when they are made.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from curation.errors import ConfigError
from curation.models import is_local

PIECE = 1 << 20
"""Bytes."""
PIECES = 16
"""Files above this many pieces are not read whole: the first piece, the last, and others evenly between them."""
_SUFFIXES = {".json", ".jinja", ".model", ".safetensors", ".tiktoken", ".txt"}


def file_signature(setting: str, path: str) -> str:
    """SHA-256 of a file's size and of its content, of large files of 16 MiB of it. Raises ConfigError."""
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
    if size <= PIECE * PIECES:
        starts = list(range(0, size, PIECE))
    else:
        starts = [(size - PIECE) * i // (PIECES - 1) for i in range(PIECES)]
    for start in starts:
        file.seek(start)
        digest.update(file.read(PIECE))
    return digest.hexdigest()
