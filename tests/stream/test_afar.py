"""Shards that lie elsewhere: ranges, retries, stalls, and the node's cache."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from curation.errors import ConfigError, CorruptionError, StorageError
from curation.stream.cache import ShardCache
from curation.stream.corpus import ShardFile, open_corpus
from curation.stream.loader import CorpusLoader
from tests.s3 import s3_bucket
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


def test_a_server_without_ranges_is_told_so(stream: Make, server: RangeServer) -> None:
    server.ranges = False
    with pytest.raises(StorageError, match=r"shards/\d+\.tar.*it knows no ranges"):
        keys(stream(corpora=[{"path": server.url}], run={"retries": 0}))


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
        stream(corpora=[{"path": server.url}], run=run)


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


DOWNLOAD = """
import sys, time
from curation.stream.cache import ShardCache
from curation.stream.corpus import open_corpus
shard = open_corpus(sys.argv[1]).shards[0]
def fetch(offset, length):
    print("begun", flush=True)
    time.sleep(60)
ShardCache(sys.argv[2], 10**9, 1).path(shard, fetch)
"""


def test_what_a_killed_download_leaves_takes_no_room(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DOWNLOAD, str(corpus), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        child.kill()
    folder = tmp_path / "curate-shards"
    assert {path.suffix[:4] for path in folder.iterdir()} == {".loc", ".jso", ".tmp"}
    sizes = [shard(corpus, i)[0].bytes for i in range(3)]
    cache = ShardCache(str(tmp_path), sizes[1] + sizes[2], max(sizes))
    kept = [filled(cache, corpus, i) for i in (1, 2)]
    assert all(path.exists() for path in kept), "both fit: the dead one's room is free"
    assert sum(path.suffix != ".lock" for path in folder.iterdir()) == 4
    filled(cache, corpus, 0)


def test_room_that_another_is_filling_is_waited_for(corpus: Path, tmp_path: Path) -> None:
    (one, data), (two, others) = shard(corpus, 0), shard(corpus, 1)
    cache = ShardCache(str(tmp_path), max(one.bytes, two.bytes), 1)
    begun, go_on, second = threading.Event(), threading.Event(), threading.Event()

    def slowly(offset: int, length: int) -> bytes:
        begun.set()
        go_on.wait(30)
        return data[offset : offset + length]

    def at_once(offset: int, length: int) -> bytes:
        second.set()
        return others[offset : offset + length]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.path, one, slowly)
        begun.wait(30)
        later = pool.submit(cache.path, two, at_once)
        assert not second.wait(0.3)
        go_on.set()
        assert first.result().name.startswith(one.sha256)
        assert later.result().read_bytes() == others
    assert [path.stem for path in (tmp_path / "curate-shards").glob("*.tar")] == [two.sha256]


def test_a_child_that_was_forked_during_a_download_holds_no_lock(corpus: Path, tmp_path: Path) -> None:
    (one, data), (two, others) = shard(corpus, 0), shard(corpus, 1)
    children: list[int] = []

    def forking(offset: int, length: int) -> bytes:
        if not (child := os.fork()):
            signal.pause()
        children.append(child)
        return data[offset : offset + length]

    cache = ShardCache(str(tmp_path), max(one.bytes, two.bytes), 1)
    try:
        path = cache.path(one, forking)
        path.unlink()  # so that its lock is asked for again
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(filled, cache, corpus, 0)
            try:
                assert found.result(20).read_bytes() == data
            finally:
                for child in children:
                    os.kill(child, signal.SIGKILL)
        assert cache.path(two, lambda offset, length: others[offset : offset + length]).exists()
    finally:
        for child in children:
            os.waitpid(child, 0)


def test_a_shard_that_lost_its_end_is_downloaded_again(corpus: Path, tmp_path: Path) -> None:
    found, data = shard(corpus, 0)
    cache = ShardCache(str(tmp_path), 10**9, found.bytes)
    filled(cache, corpus, 0).write_bytes(data[:1000])
    assert filled(cache, corpus, 0).read_bytes() == data


def held(*words: str) -> list[str]:
    """Open files of this process with one of these words in their names."""
    return [name for name in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if all(w in name for w in words)]


def test_shards_that_the_cache_has_deleted_are_closed(stream: Make, server: RangeServer, tmp_path: Path) -> None:
    most = 3 * max(size for size in (s.bytes for s in open_corpus(server.url).shards))
    one = stream(corpora=[{"path": server.url}], run={"cache": str(tmp_path / "here"), "cache_bytes": most})
    assert keys(one, 2) == keys(stream(), 2)
    assert len(held(str(tmp_path / "here"), ".tar")) <= 4
    one.close()
    assert not held(str(tmp_path / "here"), ".tar")


def test_corpora_share_what_a_process_may_hold_open(
    stream: Make, corpus: Path, other_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.stream.stream.MOST_OPEN", 6)
    before = len(held(".tar"))
    one = stream(corpora=[{"path": str(corpus)}, {"path": str(other_corpus)}])
    keys(one)
    assert len(held(".tar")) - before == 6
    one.close()


def test_a_shard_that_is_another_is_downloaded_once(stream: Make, corpus: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(corpus, tmp_path / "changed"))
    tar = next(iter(sorted((changed / "shards").iterdir())))
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    with RangeServer(changed) as server:
        run = {"cache": str(tmp_path / "cache")}
        one = stream(corpora=[{"path": server.url}], run=run, damage="skip", tails="merge")
        said = [message for batch in one for message in batch.damaged]
        assert len(said) >= 7
        assert all(f"{tar.name}: what was downloaded" in message for message in said)
        assert server.sent[tar.name] == len(data)


@pytest.mark.parametrize("cache", [False, True])
def test_an_object_store(stream: Make, corpus: Path, tmp_path: Path, cache: bool) -> None:
    wanted = keys(stream())
    run = {"cache": str(tmp_path)} if cache else {}
    with s3_bucket(f"corpora-{cache}".lower()) as bucket:
        fsspec.filesystem("s3").put(str(corpus), f"{bucket}/one", recursive=True)
        one = stream(corpora=[{"path": f"{bucket}/one"}], run=run)
        assert keys(one, 2) == wanted[:2]
        loader = CorpusLoader(one, workers=2, context="fork")
        assert [batch["keys"] for batch in loader] == wanted[2:]
        again = stream(corpora=[{"path": f"{bucket}/one"}], run={"retries": 0})
        fsspec.filesystem("s3").rm(f"{bucket}/one", recursive=True)
        with pytest.raises(StorageError, match=r"shards/\d+\.tar: bytes \d+\+\d+: "):
            keys(again)


def test_an_object_store_that_is_gone_is_told_so(stream: Make, corpus: Path) -> None:
    with s3_bucket("corpora-gone") as bucket:
        fsspec.filesystem("s3").put(str(corpus), f"{bucket}/one", recursive=True)
        one = stream(corpora=[{"path": f"{bucket}/one"}], run={"retries": 0, "stall_s": 10})
    with pytest.raises(StorageError, match=r"shards/\d+\.tar: bytes \d+\+\d+: "):
        keys(one)
