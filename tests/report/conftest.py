"""Finished runs that many tests look at: one without models, and one with scores and captions."""

from __future__ import annotations

import pytest

from curation.report.collect import collect
from curation.report.facts import RunFacts
from curation.storage import Folder
from tests.report.make_run import Made, make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_run(Folder(tmp_path_factory.mktemp("run") / "out"))


@pytest.fixture(scope="session")
def facts(made: Made) -> RunFacts:
    return collect(made.output)


@pytest.fixture(scope="session")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_run(Folder(tmp_path_factory.mktemp("run") / "out"), models=True, rows=600)


@pytest.fixture(scope="session")
def modelled_facts(modelled: Made) -> RunFacts:
    return collect(modelled.output)
