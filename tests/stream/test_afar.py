"""Shards that lie elsewhere: ranges, retries, stalls, and the node's cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.errors import ConfigError, CorruptionError, StorageError
from curation.stream.cache import ShardCache
from curation.stream.corpus import ShardFile, open_corpus
from tests.stream.conftest import Make, keys
from tests.stream.range_server import RangeServer


@pytest.fixture
def server(corpus: Path) -> Iterator[RangeServer]:
    with RangeServer(corpus) as made:
        yield made


def test_ranges_give_the_same_as_files(stream: Make, server: RangeServer, corpus: Path) -> None:
    afar = stream(corpora=[{"path": server.url}])
    assert keys(afar) == keys(stream())
    read = sum(size for name, size in server.sent.items() if name.endswith(".tar"))
    assert read <= sum(path.stat().st_size for path in (corpus / "shards").iterdir())


def test_what_stalls_or_fails_is_tried_again(stream: Make, server: RangeServer) -> None:
    server.stalls, server.failures = 2, 2
    afar = stream(corpora=[{"path": server.url}], run={"stall_s": 0.3, "retries": 4})
    assert keys(afar) == keys(stream())
    assert server.stalls == server.failures == 0


def test_what_never_comes_is_given_up_with_the_shard_named(stream: Make, server: RangeServer) -> None:
    server.stalls = 1000
    afar = stream(corpora=[{"path": server.url}], run={"stall_s": 0.1, "retries": 1})
    with pytest.raises(StorageError, match=r"shards/\d+\.tar: bytes \d+\+\d+: nothing came for 0.1 s"):
        keys(afar)


def test_the_cache_downloads_each_shard_once(stream: Make, server: RangeServer, corpus: Path, tmp_path: Path) -> None:
    run = {"cache": str(tmp_path / "cache")}
    one = stream(corpora=[{"path": server.url}], run=run)
    assert keys(one) == keys(stream())
    keys(one)
    assert keys(stream(corpora=[{"path": server.url}], run=run)) == keys(stream())
    sizes = {path.name: path.stat().st_size for path in (corpus / "shards").iterdir()}
    assert {name: size for name, size in server.sent.items() if name in sizes} == sizes


def shard(corpus: Path, number: int) -> tuple[ShardFile, bytes]:
    found = open_corpus(str(corpus)).shards[number]
    return found, (corpus / found.name).read_bytes()


def filled(cache: ShardCache, corpus: Path, number: int) -> Path:
    found, data = shard(corpus, number)
    return cache.path(found, lambda offset, length: data[offset : offset + length])


def test_the_least_recently_used_goes_and_nothing_that_is_not_ours(corpus: Path, tmp_path: Path) -> None:
    sizes = [shard(corpus, i)[0].bytes for i in range(4)]
    room = sizes[0] + sizes[2] + max(sizes[1], sizes[3])
    cache = ShardCache(str(tmp_path), room, max(sizes))
    first, second, third = (filled(cache, corpus, i) for i in range(3))
    for age, path in ((30, first), (20, second), (10, third)):
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    strangers = [first.parent / f"{'0' * 64}.tar", first.parent / "photos.tar", tmp_path / "mine.tar"]
    for stranger in strangers:
        stranger.write_bytes(b"x" * 10_000_000)
    filled(cache, corpus, 0)  # used again
    held = second.open("rb")
    filled(cache, corpus, 3)
    assert first.exists()
    assert third.exists()
    assert not second.exists()
    assert len(held.read()) == sizes[1], "what is open stays readable"
    held.close()
    assert all(stranger.exists() for stranger in strangers)


def test_a_cache_smaller_than_a_shard_is_refused(stream: Make, server: RangeServer, tmp_path: Path) -> None:
    run = {"cache": str(tmp_path), "cache_bytes": 1000}
    with pytest.raises(ConfigError, match=r"run\.cache_bytes: 1,000 bytes do not hold one shard: the largest has"):
        keys(stream(corpora=[{"path": server.url}], run=run))


def test_a_download_that_is_not_the_shard_is_thrown_away(corpus: Path, tmp_path: Path) -> None:
    found, data = shard(corpus, 0)
    cache = ShardCache(str(tmp_path), 10**9, found.bytes)
    with pytest.raises(CorruptionError, match="not what the manifest says"):
        cache.path(found, lambda offset, length: data[offset : offset + length][::-1])
    assert not [path for path in (tmp_path / "curate-shards").iterdir() if path.suffix != ".lock"]
    assert filled(cache, corpus, 0).read_bytes() == data


READ = """
import json, sys
from curation.config.stream import StreamSettings
from curation.stream.stream import CorpusStream
url, cache, seed = sys.argv[1:]
stream = CorpusStream(StreamSettings(corpora=({"path": url},), batch=12, seed=int(seed), run={"cache": cache}))
print(json.dumps([s.key for batch in stream for s in batch.samples]))
"""


def test_processes_of_a_node_share_the_cache(server: RangeServer, corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", READ, server.url, str(tmp_path)]
    children = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE) for seed in range(2)]
    found = [set(json.loads(child.communicate()[0])) for child in children]
    assert [len(keys) for keys in found] == [96, 96]
    sizes = {path.name: path.stat().st_size for path in (corpus / "shards").iterdir()}
    assert {name: size for name, size in server.sent.items() if name in sizes} == sizes
