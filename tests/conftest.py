"""What all tests share: a small web of rendered pictures with known faults, on this machine; and tiny models."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from curation.scenes.gallery import Gallery

# Models are tiny and processes many: two threads each only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shares tests out to processes: a file stays together, and so do all that start Ray, for one cluster is enough."""
    for item in items:
        group = "ray" if _uses_ray(item.path) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@cache
def _uses_ray(path: Path) -> bool:
    return re.search(r"\bray(\b|_)", path.read_text(encoding="utf-8")) is not None


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


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP; treat as read-only."""
    from tests.tiny_models import tiny_clip

    return tiny_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image classifier with the labels `normal` and `nsfw`; treat as read-only."""
    from tests.tiny_models import tiny_classifier

    return tiny_classifier(tmp_path_factory.mktemp("models") / "classifier")


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision-language model with a chat template; treat as read-only."""
    from tests.tiny_llava import tiny_llava

    return tiny_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL pipeline that predicts noise; treat as read-only."""
    from tests.tiny_sdxl import tiny_sdxl

    return tiny_sdxl(tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="session")
def wuerstchen_parts(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> dict[str, str]:
    """Where the parts of a tiny Würstchen are: `text`, `compressor`, `vqgan`, `decoder`; treat as read-only."""
    from tests.tiny_wuerstchen import tiny_wuerstchen

    return tiny_wuerstchen(tmp_path_factory.mktemp("models") / "wuerstchen", clip_folder)
