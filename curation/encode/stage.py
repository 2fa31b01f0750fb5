"""Encode: one fragment of pack, a shard, → one shard of tensors. The corpus that it leaves is streamed like any other.

The order of a shard's commit is pack's: the tar under its final name, then the fragment's parquet. What stands for no
caption is written when a worker starts; index and manifest come last.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa

from curation.config.encode import EncodeSettings
from curation.encode.cache import EMPTY_FILE
from curation.encode.encoder import Encoder
from curation.encode.member import EXTENSION, empty_bytes, torch_dtype
from curation.encode.shard import ShardEncoder
from curation.errors import ConfigError
from curation.fingerprint import result_settings
from curation.fragments import Counts, Fragment, FragmentWriter
from curation.pack.buckets import parse_size
from curation.pack.captions import caption_kinds
from curation.pack.encode import use_one_thread
from curation.pack.index import describe, write_index, write_wids
from curation.pack.shard import shard_path
from curation.pack.stage import Pack, funnel, published, tidy
from curation.row import ENCODED_FIELDS
from curation.stage import Partition, Pool, Pooled, cores_each
from curation.storage import Folder
from curation.stream.decode import Decoder

log = logging.getLogger(__name__)
_LENGTH = "encoded_length"


class Encode(Pooled):
    """Shards of tensors. `primary` is the kind of caption in `UID.txt`; `config` is the run's, for the manifest;
    `encoder`: other models than those that `settings` name."""

    name = "encode"
    target_rows = 1
    """A partition is a shard, as in pack."""
    sums = (_LENGTH,)

    def __init__(
        self,
        output: Folder,
        upstream: Pack,
        settings: EncodeSettings,
        primary: str,
        config: dict[str, Any],
        encoder: Encoder | None = None,
    ) -> None:
        self.settings = settings
        self.kinds = tuple(dict.fromkeys(primary if kind == "primary" else kind for kind in settings.texts))
        """Kinds of caption that are encoded."""
        self._primary = primary
        self._config = published(config)
        self._encoder = encoder or Encoder(settings)
        models = {"model", "revision", "variant", "vae", "semantic", "text"}
        identity = {name: value for name, value in result_settings(settings).items() if name not in models}
        super().__init__(output, upstream, {**identity, "texts": list(self.kinds), **self._encoder.identity()})
        self._shards: ShardEncoder | None = None

    @property
    def schema(self) -> pa.Schema:
        return self.input_schema(ENCODED_FIELDS)

    def check(self, schema: pa.Schema) -> None:
        """Refuse kinds of caption that a table of `schema` has not. Raises ConfigError."""
        there = caption_kinds(schema, self._primary)
        if missing := [kind for kind in self.kinds if kind not in there]:
            raise ConfigError(
                "stages.encode.texts", f"no stage writes captions of kind {missing[0]!r}; there is {there}"
            )

    def check_models(self, online: bool) -> None:
        self._encoder.check(online)

    def pool(self, cpus: float, gpus: float) -> Pool:
        return Pool.for_models(self.settings.run, cpus, gpus)

    def setup(self, workers: int, here: int | None = None) -> None:
        use_one_thread()
        threads = cores_each(here or workers)
        self._encoder.setup()
        if self.settings.texts and not self.folder.exists(EMPTY_FILE):  # of all workers the same
            empty, dtype = self._encoder.empty, torch_dtype(self.settings.dtype)
            self.folder.write_bytes(EMPTY_FILE, empty_bytes(empty.to(dtype)))
        self._shards = ShardEncoder(self._upstream_folder, self._encoder, self.settings, self.kinds, threads)

    @property
    def _upstream_folder(self) -> Folder:
        assert self.upstream is not None
        return self.upstream.folder

    async def work(self, partition: Partition) -> AsyncIterator[Fragment]:
        assert self._shards is not None
        started = time.perf_counter()
        rows = self.rows(partition)
        table = await self._shards.write(self.folder, rows)
        writer = FragmentWriter(self.folder, partition.index, self.schema, self.sums, token=self.fingerprint[:8])
        writer.add(table)
        yield writer.commit(end=True)
        seconds = time.perf_counter() - started
        log.info("encoded %d images at %.1f images/s", rows.num_rows, rows.num_rows / max(seconds, 1e-6))

    def close(self) -> None:
        if self._shards is not None:
            self._shards.close()
            self._encoder.close()
            self._shards = None

    def complete(self, fragments: tuple[Fragment, ...]) -> dict[str, Any]:
        """Write index and `wids.json`; the manifest's `corpus` is as pack's, and `encoded` tells of the tensors."""
        index = write_index(self.folder, fragments, ENCODED_FIELDS)
        tidy(self.folder, index)
        name = self._config["name"]
        write_wids(self.folder, name, index.shards)
        packed = self.input().extra["corpus"]
        counts = sum((f.counts for f in fragments), Counts())
        corpus = {
            "name": name,
            **describe(index),
            "members": [*(packed["members"] if self.settings.images else packed["members"][1:]), EXTENSION],
            "captions": packed["captions"],
            "config": self._config,
            "funnel": funnel(self, counts),
            "encoded": self._told(fragments, counts) if counts.kept else None,
        }
        return {"corpus": corpus}

    def _told(self, fragments: tuple[Fragment, ...], counts: Counts) -> dict[str, Any]:
        """What `cache.cached_of` reads: which models, which tensors, of what sizes."""
        settings = self.settings
        shapes, height = self._first(fragments)
        texts = None
        if self.kinds:
            tokens, text_width = shapes[f"text.{self.kinds[0]}"]
            empty = self.folder.read_bytes(EMPTY_FILE)
            texts = {
                "kinds": list(self.kinds),
                "primary": self._primary,
                "tokens": tokens,
                "width": text_width,
                "pooled": shapes.get(f"pooled.{self.kinds[0]}", [0])[0],
                "empty": {"name": EMPTY_FILE, "bytes": len(empty), "sha256": hashlib.sha256(empty).hexdigest()},
            }
        latents = None
        if settings.latents:
            channels, rows, _ = shapes["latents"]
            latents = {"channels": channels, "factor": height // rows}
        semantic = None
        if settings.semantic is not None:
            shrink, strides = self._encoder.wuerstchen.steps()
            semantic = {"channels": shapes["semantic"][0], "shrink": shrink, "strides": list(strides)}
        return {
            "member": EXTENSION,
            "signatures": self.identity["models"],
            "dtype": settings.dtype,
            "resolution": settings.resolution,
            "upscale": settings.upscale,
            "images": settings.images,
            "latents": latents,
            "semantic": semantic,
            "texts": texts,
            "bytes_per_sample": round(counts.sums[_LENGTH] / counts.kept, 1),
        }

    def _first(self, fragments: tuple[Fragment, ...]) -> tuple[dict[str, list[int]], int]:
        """Shapes of the tensors of some sample, and the height of its picture when it was encoded, pixels."""
        from safetensors import deserialize

        fragment = next(f for f in fragments if f.counts.kept)
        columns = ["outcome", "shard", "bucket", "encoded_offset", _LENGTH]
        rows = self.folder.read_table(fragment.name, columns).to_pylist()
        row = next(row for row in rows if row["outcome"] == "kept")
        data = self.folder.read_range(shard_path(row["shard"]), row["encoded_offset"], row[_LENGTH])
        shapes = {name: tensor["shape"] for name, tensor in deserialize(data)}  # type: ignore[no-untyped-call]
        return shapes, Decoder(self.settings.resolution, self.settings.upscale).size(parse_size(row["bucket"]))[1]
