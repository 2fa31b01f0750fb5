"""The fetch stage: URL → image bank. Workers share the limits of the whole run among them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pyarrow as pa

from curation.config import FetchSettings
from curation.fetch.operator import Fetch
from curation.fingerprint import result_settings
from curation.op import StreamOperator
from curation.row import FETCH_FIELDS
from curation.stage import Pool, RowStage, Stage
from curation.storage import Folder


class FetchStage(RowStage):
    """Fetches, checks and stores the images of the source's kept rows."""

    name = "fetch"
    sums = ("bytes_received", "bytes_saved")
    stores_pixels = True
    target_rows = 1000
    # Two partitions at once: while one waits for its last slow hosts, the other has work.
    in_flight = 2

    def __init__(self, output: Folder, upstream: Stage, settings: FetchSettings) -> None:
        super().__init__(output, upstream, result_settings(settings))
        self.settings = settings

    @property
    def schema(self) -> pa.Schema:
        return self.input_schema(FETCH_FIELDS)

    def pool(self, cpus: float, gpus: float) -> Pool:
        workers = self.settings.run.workers or max(1, int(cpus) // 2)
        return Pool(workers, cpus=min(2.0, max(1.0, cpus // workers)))

    def setup(self, workers: int, here: int | None = None) -> None:
        run = self.settings.run
        self.operator = self._make_operator(
            concurrency=max(1, run.concurrency // workers),
            per_host=max(1, run.per_host // workers),
            decoders=run.decoders or 2,
        )
        self.operator.setup()

    def _make_operator(self, *, concurrency: int, per_host: int, decoders: int) -> StreamOperator:
        engine: type[Fetch] = Fetch
        if self.settings.engine == "img2dataset":
            from curation.fetch.with_img2dataset import FetchWithImg2dataset

            engine = FetchWithImg2dataset
        return engine(self.settings, concurrency=concurrency, per_host=per_host, decoders=decoders)

    def finish_rows(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        return self.operator.stream(rows)

    def close(self) -> None:
        self.operator.close()
