"""The decoder that most tests of the disposable child use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from curation.config import FetchSettings
from curation.image.decoder import Decoder


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(FetchSettings()) as found:
        yield found
