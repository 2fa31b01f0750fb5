"""Where the embedded world's trained models are: `model_folder("clip")`. `curation/scenes/zoo/` makes them."""

from __future__ import annotations

from pathlib import Path

from curation.errors import RunError

MODELS = Path(__file__).parent / "models"


def model_folder(name: str) -> Path:
    """Folder of the model `name`: clip, aesthetic, safety, watermark, captioner, teacher. Raises RunError where it is
    not there."""
    folder = MODELS / name
    if not folder.is_dir():
        raise RunError(f"no model {name!r} in {MODELS}: `make zoo` trains it")
    return folder
