"""What an operator is: pure Python over Arrow tables, testable without Ray.

An operator says which columns it reads and writes and what it costs; the engines decide where it runs. Scorers add
columns; a fault of one row becomes the outcome of that row; anything raised is a bug and stops the run.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from curation.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image


class Cost(StrEnum):
    """What an operator waits for. Which workers it gets is its stage's to say (`Stage.pool`)."""

    CPU = "cpu"
    GPU = "gpu"
    NETWORK = "network"


class Operator(ABC):
    """Base of all operators."""

    version: ClassVar[str] = "1"
    """Change it whenever results change: it is part of the stage's identity."""
    cost: ClassVar[Cost] = Cost.CPU
    reads: tuple[str, ...] = ()
    """Columns that must be there. `image` asks for the stored bytes of each row."""
    writes: tuple[pa.Field, ...] = ()
    """Columns that it adds, outcome columns aside."""

    def setup(self) -> None:
        """Load models, start helpers; called once a worker, before the first batch."""

    def close(self) -> None:
        """Give back what `setup` took."""


class BatchOperator(Operator):
    """Works on a whole batch at a time."""

    @abstractmethod
    def process(self, batch: pa.Table) -> pa.Table:
        """`batch` with the columns of `writes` added.

        Rows keep their order. A row that failed gets outcome columns (`curation.row.with_outcomes`); a table without
        outcome columns means that all rows are kept.
        """


class ImageOperator(Operator):
    """Works on a batch with its pictures, which are decoded once for all operators of the stage."""

    side: int
    """Shorter side, in pixels, that it needs. Pictures come at least this large where the original is, never enlarged,
    and scaled down in the decoder where it can: to the largest side that any operator of the stage asks for."""

    @abstractmethod
    def process(self, batch: pa.Table, images: Sequence[Image.Image]) -> pa.Table:
        """As `BatchOperator.process`; `images` are RGB, one a row of `batch`."""


class StreamOperator(Operator):
    """Works on many rows at once and hands them on in the order in which they finish."""

    @abstractmethod
    def stream(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        """Finished rows, a few at a time: columns of `rows`, of `writes`, outcomes, and `image` for kept rows."""


def load_operator(path: str, setting: str) -> type[BatchOperator | ImageOperator]:
    """The class that a user names by import path, `package.module:Class`. Raises ConfigError naming `setting`."""
    module_name, colon, class_name = path.partition(":")
    if not colon or not module_name or not class_name:
        raise ConfigError(setting, f"{path!r} is not of the form package.module:Class")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(setting, f"cannot import {module_name}: {error}") from None
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, BatchOperator | ImageOperator)):
        raise ConfigError(setting, f"{path} is neither a curation.op.BatchOperator nor an ImageOperator")
    return found
