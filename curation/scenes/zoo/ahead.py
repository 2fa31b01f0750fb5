"""Batches made ahead of the step that wants them, by processes of their own; the trainings of the zoo use it.

Drawing a picture costs a fraction of a training step on it, so there is no data set on disk: all pictures are new.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
AHEAD = 4
"""Batches in hand beyond the one in work."""


class Ahead(Generic[T]):
    """`batches(step)` is `make(step)`, for steps in a row. `make` is a function that can be pickled."""

    def __init__(self, make: Callable[[int], T], processes: int = 1) -> None:
        """`processes`: 0 makes each batch where it is wanted."""
        self._make = make
        # not forked: the locks of torch's threads would never open in the copy
        fresh = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, fresh, initializer=_alone) if processes else None
        self._coming: deque[tuple[int, Future[T]]] = deque()

    def __call__(self, step: int) -> T:
        if self._pool is None:
            return self._make(step)
        while self._coming and self._coming[0][0] != step:
            self._coming.popleft()[1].cancel()
        start = self._coming[-1][0] + 1 if self._coming else step
        for later in range(start, step + AHEAD + 1):
            self._coming.append((later, self._pool.submit(self._make, later)))
        return self._coming.popleft()[1].result()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """OpenCV's threads would fight the trainer's for the same cores."""
    import cv2

    cv2.setNumThreads(1)
