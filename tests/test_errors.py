"""Errors as they come back from another process."""

from __future__ import annotations

import pickle

import pytest

from curation.errors import ConfigError, CorruptionError, CurationError, RunError, SourceError, StorageError


@pytest.mark.parametrize(
    "error",
    [ConfigError("data.captions", "no such kind"), *(kind("why") for kind in (RunError, SourceError, StorageError))],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_worker_is_the_same_error_here(error: CurationError) -> None:
    """Ray sends exceptions as bytes; one that cannot be read again is told as Ray's own fault."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_path_of_a_setting_stands_before_what_is_wrong() -> None:
    assert str(ConfigError("a.b", "is wrong")) == "a.b: is wrong"
    assert str(ConfigError("", "is wrong")) == "is wrong"
    assert not isinstance(CorruptionError("x"), ConfigError)
