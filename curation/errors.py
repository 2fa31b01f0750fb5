"""Every error that this project raises on purpose; the command line turns each into one clear line.

CurationError
├── ConfigError      the config or the arguments are wrong (exit code 2)
└── RunError         the run cannot go on (exit code 1)
    ├── SourceError      a list of URLs cannot be read, or has no rows
    ├── StorageError     the disk is full, the bucket refuses, a file is gone
    └── CorruptionError  what is stored is not what was committed

Faults of single rows are no exceptions: they are outcomes of those rows (`curation.row.Reason`). Anything else that
is raised is a bug, and stops the run with its traceback in the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CurationError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(CurationError):
    """A setting is wrong: where it stands, what was given, what is allowed."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str]]:
        """From a worker of Ray it comes as bytes: exceptions are made anew from their message alone."""
        return ConfigError, (self.path, self.problem)


@contextmanager
def under(section: str) -> Iterator[None]:
    """Errors of settings in this block are told with `section` before their path: where they stand in the file."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{section}.{error.path}" if error.path else section, error.problem) from error


class RunError(CurationError):
    """The run cannot go on; committed work stays."""


class SourceError(RunError):
    """A source cannot be read, or holds no rows."""


class StorageError(RunError):
    """Reading or writing a file of the corpus failed."""


class CorruptionError(RunError):
    """Stored bytes differ from what was committed."""
