"""A gallery that all tests share: a small web of rendered pictures with known faults, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation.scenes.gallery import Gallery


@dataclass(frozen=True)
class OpenGallery:
    gallery: Gallery
    listed: Path
    """Its list: Parquet with columns URL and TEXT."""


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenGallery]:
    with Gallery(120, seed=1, slow_s=0.3) as opened:
        listed = opened.write_list(tmp_path_factory.mktemp("gallery") / "list.parquet")
        yield OpenGallery(opened, listed)
