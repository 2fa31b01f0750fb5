"""The smallest real stages: a list of numbers, and a pooled stage that rejects some and stores bytes for the others.

They use the same classes as the journey's stages, so what is tested with them (engines, commit, resume) holds for all.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.fragments import Fragment, FragmentWriter, outcome_schema
from curation.names import make_uid
from curation.row import KEPT, UID, Reason, Verdict, with_outcomes
from curation.stage import Pool, RowStage, Solo, Stage
from curation.storage import Folder


class Numbers(Solo):
    """`count` rows, ten a fragment; each has the number `n`."""

    name = "source"

    def __init__(self, output: Folder, count: int) -> None:
        super().__init__(output, None, {"count": count})
        self.count = count

    @property
    def schema(self) -> pa.Schema:
        return outcome_schema([UID, pa.field("n", pa.int64())])

    def build(self) -> list[Fragment]:
        fragments = []
        for index, start in enumerate(range(0, self.count, 10)):
            numbers = range(start, min(start + 10, self.count))
            table = pa.table({"uid": [make_uid("numbers", str(n)) for n in numbers], "n": list(numbers)})
            writer = FragmentWriter(self.folder, index, self.schema)
            writer.add(with_outcomes(table, [KEPT] * table.num_rows))
            fragments.append(writer.commit(end=True))
        return fragments


class Squares(RowStage):
    """Stores the digits of n² as pixels; numbers that 7 divides are rejected. Says who did the work in `log`."""

    name = "squares"
    stores_pixels = True
    sums = ("square",)
    target_rows = 20
    in_flight = 2

    def __init__(self, output: Folder, upstream: Stage, *, log: Path | None = None, trouble: str = "") -> None:
        super().__init__(output, upstream, {})
        self.log = log
        self.trouble = trouble

    @property
    def schema(self) -> pa.Schema:
        fields = [("square", pa.int64()), ("stored_format", pa.string()), ("sha256", pa.string()), ("tar", pa.string())]
        return self.input_schema([pa.field(*f) for f in [*fields, ("offset", pa.int64()), ("length", pa.int64())]])

    def pool(self, cpus: float, gpus: float) -> Pool:
        return Pool(2, cpus=1)

    def setup(self, workers: int, here: int | None = None) -> None:
        self.workers = workers
        if self.trouble == "bug in setup":
            raise ZeroDivisionError("a bug in setup")

    async def finish_rows(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        for start in range(0, rows.num_rows, 5):
            batch = rows.slice(start, 5)
            await asyncio.sleep(0)
            self._stumble(batch["n"].to_pylist())
            yield squared(batch)

    def _stumble(self, numbers: list[int]) -> None:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {' '.join(map(str, numbers))}\n")
        if self.trouble == "bug" and 33 in numbers:
            raise ZeroDivisionError("a bug")
        if self.trouble == "die always" and 33 in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "die once" and 33 in numbers and self.log is not None:
            mark = self.log.with_suffix(".died")
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None:
        """Nothing to give back."""


def squared(batch: pa.Table) -> pa.Table:
    """What `Squares` makes of some rows."""
    numbers = batch["n"].to_pylist()
    images: list[bytes | None] = [None if n % 7 == 0 else str(n * n).encode() for n in numbers]
    columns: dict[str, Any] = {
        "square": pa.array([n * n for n in numbers]),
        "stored_format": pa.array(["jpg"] * len(numbers)),
        "sha256": pa.array([None if i is None else hashlib.sha256(i).hexdigest() for i in images], pa.string()),
        "image": pa.array(images, pa.large_binary()),
    }
    for name, values in columns.items():
        batch = batch.append_column(name, values)
    return with_outcomes(batch, [KEPT if i else Verdict(Reason.WHERE, "7 divides it") for i in images])
