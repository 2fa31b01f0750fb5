"""What the tests of captions share: a real endpoint, and one Ray session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.engines import Engine, make_engine
from tests.caption.chat_origin import transformers_serve


@pytest.fixture(scope="package")
def ray_engine() -> Iterator[Engine]:
    """Open for all tests of this folder."""
    engine = make_engine("ray")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def endpoint(llava_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a `transformers serve` with the tiny model that can speak."""
    with transformers_serve(llava_folder, tmp_path_factory.mktemp("serve")) as address:
        yield address
