"""Damage is found, named with shard and key, and dealt with as the settings say; a sample is whole or not there."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curation.config.stream import ReadRun
from curation.errors import CorruptionError, StorageError
from curation.stream.corpus import Corpus, open_corpus
from curation.stream.reader import Reader
from curation.stream.sample import take_apart
from tests.stream.conftest import Make, keys


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


def place(corpus: Corpus, row: int) -> tuple[Path, int, int]:
    """File, offset and length of a sample."""
    name = corpus.shards[int(corpus.shard[row])].name
    return Path(corpus.folder.path(name)), int(corpus.offset[row]), int(corpus.length[row])


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x20
    path.write_bytes(data)


def test_any_flipped_byte_of_a_sample_is_found(copy: Path) -> None:
    corpus = open_corpus(str(copy))
    path, offset, length = place(corpus, 3)
    key = corpus.keys(np.array([3]))[0]
    whole = path.read_bytes()
    reader = Reader(corpus, ReadRun())
    assert isinstance(reader.read([3])[0], memoryview)
    with open(path, "r+b") as file:
        # Headers and small members byte by byte; of what is left, nearly all a picture, every seventh.
        for position in (*range(offset, offset + 1536), *range(offset + 1536, offset + length, 7)):
            file.seek(position)
            file.write(bytes([whole[position] ^ 1]))
            file.flush()
            (found,) = reader.read([3])
            assert isinstance(found, CorruptionError), f"byte {position} was flipped unseen"
            file.seek(position)
            file.write(whole[position : position + 1])
            file.flush()
    assert key in str(found)
    assert path.name in str(found)
    assert isinstance(reader.read([3])[0], memoryview)
    reader.close()


def test_a_cut_at_every_block_is_found(copy: Path) -> None:
    corpus = open_corpus(str(copy))
    row = len(corpus) - 1
    path, _, _ = place(corpus, row)
    rows = [int(r) for r in np.flatnonzero(corpus.shard == corpus.shard[row])]
    whole = path.read_bytes()
    reader = Reader(corpus, ReadRun())
    for size in range(0, len(whole), 512):
        path.write_bytes(whole[:size])
        found = reader.read(rows)
        for r, records in zip(rows, found, strict=True):
            _, offset, length = place(corpus, r)
            assert isinstance(records, CorruptionError) == (offset + length > size), (r, size)
    reader.close()


def test_a_shard_that_is_gone_stops_the_stream(stream: Make, copy: Path) -> None:
    next(iter((copy / "shards").iterdir())).unlink()
    with pytest.raises(StorageError, match="shards/"):
        keys(stream(corpora=[{"path": str(copy)}]))


def damaged(copy: Path, rows: list[int]) -> list[str]:
    """Flip a byte in some samples; returns their keys."""
    corpus = open_corpus(str(copy))
    for row in rows:
        path, offset, length = place(corpus, row)
        flip(path, offset + length // 2)
    return corpus.keys(np.array(rows))


def test_by_default_damage_stops_with_shard_and_key(stream: Make, copy: Path) -> None:
    (key,) = damaged(copy, [40])
    with pytest.raises(CorruptionError, match=rf"shards/\d+\.tar.*sample {key}"):
        keys(stream(corpora=[{"path": str(copy)}], tails="pad"))


def test_skip_goes_on_without_it_and_says_so(stream: Make, copy: Path) -> None:
    bad = damaged(copy, [40, 41, 42])
    one = stream(corpora=[{"path": str(copy)}], damage="skip", tails="pad")
    batches = list(one)
    seen = {s.key for b in batches for s in b.samples}
    assert not seen & set(bad)
    said = " ".join(message for b in batches for message in b.damaged)
    assert all(key in said for key in bad)
    assert len(batches) == len(stream(corpora=[{"path": str(copy)}], tails="pad"))


def test_replace_keeps_batches_full_and_is_the_same_again(stream: Make, copy: Path) -> None:
    bad = set(damaged(copy, [40, 41, 42]))
    made = [keys(stream(corpora=[{"path": str(copy)}], damage="replace", tails="pad")) for _ in range(2)]
    assert made[0] == made[1]
    assert all(len(batch) == 12 for batch in made[0])
    assert not bad & {key for batch in made[0] for key in batch}
    for batch in stream(corpora=[{"path": str(copy)}], damage="replace", tails="pad"):
        assert {(s.facts["width"], s.facts["height"]) for s in batch.samples} == {batch.shape}


def test_over_the_budget_the_stream_stops(stream: Make, copy: Path) -> None:
    damaged(copy, [40, 41, 42])
    with pytest.raises(CorruptionError, match="over 2 damaged samples"):
        keys(stream(corpora=[{"path": str(copy)}], damage="skip", damage_budget=2, tails="pad"))


def test_an_index_that_does_not_fit_the_manifest_is_refused(copy: Path) -> None:
    (copy / "index.parquet").write_bytes((copy / "index.parquet").read_bytes()[:-1])
    with pytest.raises(CorruptionError, match=r"index\.parquet has \d+ bytes, not \d+"):
        open_corpus(str(copy))


def test_records_that_hold_another_sample_are_no_sample() -> None:
    with pytest.raises(CorruptionError, match="no bytes"):
        take_apart(memoryview(b""), 0)
    with pytest.raises(CorruptionError, match="hold 0 samples"):
        take_apart(memoryview(bytes(1024)), 0)


def test_two_threads_do_not_close_each_others_files(corpus: Path) -> None:
    opened = open_corpus(str(corpus))
    reader = Reader(opened, ReadRun(), most_open=1)
    rows = [[int(row) for row in np.random.default_rng(i).permutation(len(opened))] for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(reader.read, rows))
    assert all(isinstance(records, memoryview) for part in found for records in part)
    reader.close()
