"""What the tests of captions share: a real endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.caption.chat_origin import transformers_serve


@pytest.fixture(scope="session")
def endpoint(llava_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a `transformers serve` with the tiny model that can speak."""
    with transformers_serve(llava_folder, tmp_path_factory.mktemp("serve")) as address:
        yield address
