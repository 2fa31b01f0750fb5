"""Lists and output on an object store: a real S3-speaking server on loopback."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.config import SourceSettings
from curation.errors import ConfigError
from curation.sources.signature import signature
from tests.s3 import s3_bucket
from tests.sources.built import build, by_url

URLS = [f"http://h{i}.example/{i}" for i in range(50)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("lists") as url:
        fs = fsspec.filesystem("s3")
        for part in range(2):
            buffer = io.BytesIO()
            rows = URLS[25 * part : 25 * part + 25]
            pq.write_table(pa.table({"url": rows, "n": range(25 * part, 25 * part + 25)}), buffer)
            fs.pipe_file(f"lists/parts/{part}.parquet", buffer.getvalue())
        fs.pipe_file("lists/l.txt.gz", gzip.compress("\n".join(URLS).encode()))
        fs.pipe_file("lists/l.csv", "\n".join(["url,n", *(f"{u},{i}" for i, u in enumerate(URLS))]).encode())
        yield url


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "parquet", "path": "parts/*.parquet"},
        {"kind": "parquet", "path": "parts"},
        {"kind": "txt", "path": "l.txt.gz"},
        {"kind": "csv", "path": "*.csv"},
    ],
)
def test_lists_on_an_object_store(bucket: str, settings: dict[str, Any]) -> None:
    settings = {**settings, "path": f"{bucket}/{settings['path']}"}
    table = build(f"{bucket}/out-{settings['kind']}", settings)
    assert sorted(by_url(table)) == sorted(URLS)
    again = build(f"{bucket}/out-{settings['kind']}", settings)
    assert again.equals(table)
    first = signature(SourceSettings(**settings))
    assert first == signature(SourceSettings(**settings))
    assert sum(size for _, size, _ in first["files"]) > 0


def test_where_on_an_object_store(bucket: str) -> None:
    settings = {"kind": "parquet", "path": f"{bucket}/parts", "where": "n >= 40", "columns": {"keep": ["n"]}}
    assert sorted(by_url(build(f"{bucket}/out-where", settings))) == URLS[40:]


def test_what_is_not_there(bucket: str) -> None:
    for path in ("nothing.parquet", "nothing/*.parquet"):
        with pytest.raises(ConfigError) as caught:
            build(f"{bucket}/out", {"kind": "parquet", "path": f"{bucket}/{path}"})
        assert caught.value.path == "source.path"
