"""The undisturbed run that the tests of the pack stage compare with."""

from __future__ import annotations

import pytest

from tests.pack.make_bank import Packed, pack
from tests.pack.whole_run import PICTURES, SETTINGS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """An uninterrupted run."""
    return pack(tmp_path_factory.mktemp("whole"), PICTURES, **SETTINGS)
