"""WebDataset tars that were packed elsewhere → an index and a manifest beside them, for the stream to read.

`curate index FOLDER` calls `index_tars`. The tars are read once and stay as they are. What cannot be a sample (no
image, no text, damage in the tar) is left out of the index and named in the manifest's `left_out`.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from crc32c import crc32c

from curation.errors import ConfigError
from curation.fragments import MANIFEST
from curation.image.header import Header, read_header
from curation.pack.buckets import Buckets, sdxl_sizes
from curation.pack.index import INDEX
from curation.sources.tar_index import Damage, Sample, samples, scan
from curation.storage import Folder
from curation.tar import BLOCK

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),  # the sample's key
        pa.field("shard", pa.string(), nullable=False),  # path of its tar below the folder, without ".tar"
        pa.field("bucket", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("crc32c", pa.uint32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),  # pixels, upright
        pa.field("height", pa.int32(), nullable=False),
    ]
)
NAMED = 1000
"""Samples left out that the manifest names one by one; the rest is counted."""


def index_tars(url: str, resolution: int = 1024) -> dict[str, Any]:
    """Index all `*.tar` in the folder at `url` and in its folder `shards`, for buckets of `resolution`.

    Returns what the manifest says of the corpus. Raises ConfigError where there are no tars or no samples in them, or
    where a manifest is there already.
    """
    folder = Folder(url)
    if folder.local is not None and folder.local.is_file():
        raise ConfigError("FOLDER", f"{url} is a file; the folder that it lies in is indexed")
    if folder.exists(MANIFEST):
        told = "it is a packed corpus, or indexed. To index it again, delete that"
        raise ConfigError("FOLDER", f"{url} has a {MANIFEST} already: {told} and {INDEX}")
    names = sorted(name for name in folder.sizes() if name.endswith(".tar"))
    names += sorted(f"shards/{name}" for name in folder.child("shards").sizes() if name.endswith(".tar"))
    if not names:
        raise ConfigError("FOLDER", f"no tars in {url}")
    shards: list[dict[str, Any]] = []
    buckets: Counter[str] = Counter()
    left_out: list[dict[str, str]] = []
    table = Buckets(sdxl_sizes(resolution))
    with folder.writing(INDEX) as path:
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            for name in names:
                data = folder.read_bytes(name)
                rows: list[dict[str, Any]] = []
                for item in _records(data):
                    row = item if isinstance(item, dict) else _row(name, data, *item, table)
                    if "why" in row:
                        left_out.append({"shard": name, **row})
                    else:
                        rows.append(row)
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                buckets.update(row["bucket"] for row in rows)
                digest = hashlib.sha256(data).hexdigest()
                shards.append({"name": name, "samples": len(rows), "bytes": len(data), "sha256": digest})
        index = path.read_bytes()
    if not buckets:
        folder.delete(INDEX)
        why = f"the first was left out for {left_out[0]['why']!r}" if left_out else "they hold no files"
        raise ConfigError("FOLDER", f"no samples in the tars of {url}: {why}")
    corpus = {
        "name": folder.url.rsplit("/", 1)[-1],
        "samples": sum(buckets.values()),
        "bytes": sum(shard["bytes"] for shard in shards),
        "shards": shards,
        "index": {"name": INDEX, "bytes": len(index), "sha256": hashlib.sha256(index).hexdigest()},
        "buckets": dict(sorted(buckets.items())),
        "captions": [],
        "resolution": resolution,
        "left_out": left_out[:NAMED],
        "left_out_count": len(left_out),
    }
    folder.write_json(MANIFEST, {"format": 1, "stage": "index", "extra": {"corpus": corpus}})
    return corpus


def _records(data: bytes) -> Iterator[tuple[Sample, int, int] | dict[str, str]]:
    """Each sample with the start and the end of its tar records, or why something is none."""
    start = 0
    for item in samples(scan(io.BytesIO(data), len(data))):
        if isinstance(item, Damage):
            yield {"key": "", "why": item.problem}
            start = max(start, item.offset)
            continue
        end = max(member.offset + -(-member.size // BLOCK) * BLOCK for member in item.members.values())
        yield item, start, min(end, len(data))
        start = end


def _row(name: str, data: bytes, sample: Sample, start: int, end: int, table: Buckets) -> dict[str, Any]:
    image = sample.image
    if image is None or "txt" not in sample.members:
        return {"key": sample.key, "why": "it has no image" if image is None else "it has no text"}
    header = read_header(data[image.offset : image.offset + image.size])
    if not isinstance(header, Header):
        return {"key": sample.key, "why": "its image is not one that can be read"}
    nearest = table.nearest(np.array([header.width]), np.array([header.height]))[0]
    width, height = table.sizes[nearest]
    return {
        "uid": sample.key,
        "shard": name.removesuffix(".tar"),
        "bucket": f"{width}x{height}",
        "offset": start,
        "length": end - start,
        "crc32c": crc32c(data[start:end]),
        "width": header.width,
        "height": header.height,
    }
