"""One finished run over the gallery that many tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.curate import run
from tests.conftest import OpenGallery
from tests.journey import config


@pytest.fixture(scope="session")
def done(gallery: OpenGallery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a finished local run. Who runs on it again must leave it as it was."""
    output = tmp_path_factory.mktemp("done")
    run(config(gallery.listed, output), engine="local")
    return output
