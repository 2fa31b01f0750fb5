"""Pack: one fragment of the layout → one shard.

The order of a shard's commit: the tar under its final name, then the fragment's parquet, which is the commit. A tar
without its parquet is written anew. The files beside the shards and the manifest come last, when every shard is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from curation.config import PackSettings
from curation.fingerprint import result_settings
from curation.fragments import Counts, Fragment, FragmentWriter, Manifest
from curation.pack.croissant import write_croissant
from curation.pack.encode import use_one_thread
from curation.pack.index import Index, describe, write_index, write_wids
from curation.pack.layout import Layout
from curation.pack.sample import SampleMaker
from curation.pack.shard import write_shard
from curation.row import PACKED, without_outcomes
from curation.stage import Partition, Pool, Pooled, Stage
from curation.storage import Folder
from curation.text import without_secrets


class Pack(Pooled):
    """The shards. `config` is the run's whole config as plain data; the manifest carries it."""

    name = "pack"
    target_rows = 1
    """No two fragments of the layout together: a partition is a shard."""

    def __init__(
        self, output: Folder, upstream: Layout, settings: PackSettings, bank: Folder, config: dict[str, Any]
    ) -> None:
        self._config = published(config)
        super().__init__(output, upstream, {**result_settings(settings), "corpus": config["name"]})
        self._settings = settings
        self._bank = bank

    @property
    def schema(self) -> pa.Schema:
        return self.input_schema([PACKED])

    def pool(self, cpus: float, gpus: float) -> Pool:
        return Pool(self._settings.run.workers or max(1, int(cpus)), cpus=1)

    def setup(self, workers: int, here: int | None = None) -> None:
        use_one_thread()

    async def work(self, partition: Partition) -> AsyncIterator[Fragment]:
        rows = self.rows(partition)
        table = await write_shard(self.folder, rows, self._bank, self._maker(rows.schema), self._settings.format)
        writer = FragmentWriter(self.folder, partition.index, self.schema, self.sums, token=self.fingerprint[:8])
        writer.add(table)
        yield writer.commit(end=True)

    def close(self) -> None:
        """Nothing was taken."""

    def complete(self, fragments: tuple[Fragment, ...]) -> dict[str, Any]:
        """Write index, `wids.json` and `croissant.json`; the manifest's `corpus` names shards, config and funnel."""
        maker = self._maker(without_outcomes(self.schema.empty_table()).schema)
        index = write_index(self.folder, fragments)
        tidy(self.folder, index)
        name = self._config["name"]
        write_wids(self.folder, name, index.shards)
        write_croissant(self.folder, name, index, self._settings.format, maker)
        corpus = {
            "name": name,
            **describe(index),
            "members": [self._settings.format, "txt", "json"],
            "captions": list(maker.kinds),
            "config": self._config,
            "funnel": funnel(self, sum((f.counts for f in fragments), Counts())),
        }
        return {"corpus": corpus}

    def _maker(self, schema: pa.Schema) -> SampleMaker:
        return SampleMaker(
            schema.remove(i) if (i := schema.get_field_index(PACKED.name)) >= 0 else schema, self._settings
        )


def tidy(folder: Folder, index: Index) -> None:
    """Remove what killed workers left among the shards, when no worker of their stage runs any more."""
    named = {shard.name for shard in index.shards}
    for name in folder.child("shards").sizes():
        if f"shards/{name}" not in named:
            folder.delete(f"shards/{name}")


def funnel(last: Stage, own: Counts) -> list[dict[str, Any]]:
    """Rows by outcome and reason after each stage, from the source to `last`, whose counts are `own`."""
    steps = [_step(last, own)]
    stage = last
    while stage.upstream is not None:
        stage = stage.upstream
        manifest: Manifest | None = stage.manifest()
        assert manifest is not None, f"{stage.name} is unfinished"
        steps.append(_step(stage, manifest.counts))
    return steps[::-1]


def _step(stage: Stage, counts: Counts) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "fingerprint": stage.fingerprint,
        **{k: v for k, v in asdict(counts).items() if k != "sums"},
    }


_PLACES = ("path", "model", "tokenizer", "aesthetic", "vae")
"""Settings that may name a file or folder of this machine."""
_LEFT_OUT = ("output", "run", "endpoint", "api_key_env")


def published(config: dict[str, Any]) -> dict[str, Any]:
    """`config` as the corpus carries it: what decided its contents, and nothing about the machine that made it.

    Left out: `output`, every `run` (speed only), how an endpoint is reached, and what is secret of a URL. Of a list or
    a model on a disk only its own name stays.
    """

    def clean(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {key: clean(inner, key) for key, inner in value.items() if key not in _LEFT_OUT}
        if isinstance(value, list | tuple):
            return [clean(inner) for inner in value]
        if key in _PLACES and isinstance(value, str) and value.startswith(("/", "file:", "~")):
            return value.rstrip("/").rsplit("/", 1)[-1]
        return without_secrets(value) if isinstance(value, str) else value

    result: dict[str, Any] = clean(config)
    return result
