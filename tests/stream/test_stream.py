"""Batches, whoever reads them: the same global order for any number of ranks, and going on exactly where it stopped."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from curation.errors import ConfigError
from curation.stream.stream import CorpusStream
from tests.pack.make_bank import pack, picture
from tests.stream.conftest import Make, keys


def by_ranks(make: Make, world: int, **settings: object) -> list[list[str]]:
    """The global batches, put together from all ranks."""
    ranks = [keys(make(rank, world, batch=48, tails="pad", **settings)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1, "ranks have different numbers of steps"
    return [[key for rank in parts for key in rank] for parts in zip(*ranks, strict=True)]


@pytest.mark.parametrize("world", [2, 3, 8, 16])
def test_any_number_of_ranks_reads_the_same_global_batches(stream: Make, world: int) -> None:
    assert by_ranks(stream, world) == by_ranks(stream, 1)


def test_each_key_comes_once_an_epoch_but_for_those_that_are_named(stream: Make) -> None:
    whole = stream()
    plan = whole.plan()
    seen = Counter(key for batch in keys(whole) for key in batch)
    dropped = whole.samples.keys(plan.dropped)
    assert set(seen.values()) == {1}
    assert not set(seen) & set(dropped)
    assert len(seen) + len(dropped) == 110
    assert 0 < len(dropped) < 3 * 12


def test_every_epoch_has_another_order_and_the_same_seed_the_same_one(stream: Make) -> None:
    one = stream()
    first, second = keys(one), keys(one)
    assert sorted(k for b in first for k in b)[:50] != [k for b in first for k in b][:50]
    assert first != second
    again = stream()
    assert keys(again) == first
    assert keys(again) == second
    assert keys(stream(seed=1)) != first


def test_every_batch_has_one_shape(stream: Make) -> None:
    shapes = set()
    for batch in stream(tails="pad"):
        assert {(s.facts["width"], s.facts["height"]) for s in batch.samples} == {batch.shape}
        shapes.add(batch.shape)
    assert len(shapes) == 3


def test_a_state_goes_on_with_exactly_the_next_sample_on_another_number_of_ranks(stream: Make) -> None:
    whole = by_ranks(stream, 1)
    start = stream(0, 2, batch=48, tails="pad")
    keys(start, 2)
    state = json.loads(json.dumps(start.state_dict()))
    assert len(json.dumps(state)) < 4096
    rest = []
    for rank in range(3):
        other = stream(rank, 3, batch=48, tails="pad")
        other.load_state_dict(state)
        rest.append(keys(other))
    assert [[k for part in parts for k in part] for parts in zip(*rest, strict=True)] == whole[2:]


def test_a_state_in_a_later_epoch_goes_on_there(stream: Make) -> None:
    one = stream()
    keys(one)
    keys(one, 3)
    two = stream()
    two.load_state_dict(one.state_dict())
    assert keys(two) == keys(one)


@pytest.mark.parametrize(
    ("other", "says"),
    [({"batch": 24}, "batch: 12 there, 24 here"), ({"seed": 5}, "seed: 0 there, 5 here"), ({"window": 3}, "window")],
)
def test_a_state_of_other_settings_is_refused_with_what_differs(stream: Make, other: dict[str, int], says: str) -> None:
    state = stream().state_dict()
    with pytest.raises(ConfigError, match=says):
        stream(**other).load_state_dict(state)


def test_a_state_of_another_corpus_is_refused(stream: Make, other_corpus: Path) -> None:
    state = stream().state_dict()
    with pytest.raises(ConfigError, match="corpora"):
        stream(corpora=[{"path": str(other_corpus)}]).load_state_dict(state)


READ_ON = """
import json, sys
from curation.config.stream import StreamSettings
from curation.stream.stream import CorpusStream
corpus, state = sys.argv[1:]
stream = CorpusStream(StreamSettings(corpora=({"path": corpus},), batch=12))
if state:
    stream.load_state_dict(json.loads(state))
for batch in stream:
    print(json.dumps([[s.key for s in batch.samples], stream.state_dict()]), flush=True)
"""


def test_kill_9_in_the_middle_loses_and_repeats_nothing(stream: Make, corpus: Path) -> None:
    whole = keys(stream())
    seen: list[list[str]] = []
    state = ""
    for _ in range(3):
        command = [sys.executable, "-c", READ_ON, str(corpus), state]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                batch, found = json.loads(line)
                seen.append(batch)
                state = json.dumps(found)
                if len(seen) % 2 == 0:
                    os.kill(child.pid, signal.SIGKILL)
                    break
    assert seen == whole[: len(seen)]
    assert len(seen) == 6


def test_a_stream_can_be_sent_to_another_process(stream: Make) -> None:
    one = stream()
    keys(one, 2)
    other = pickle.loads(pickle.dumps(one))
    assert keys(other) == keys(one)


def captions(stream: CorpusStream) -> dict[str, str]:
    """Captions of an epoch by key."""
    return {s.key: c for batch in stream for s, c in zip(batch.samples, batch.captions, strict=True)}


def test_captions_follow_the_seed_and_their_weights(stream: Make) -> None:
    mixed = stream(captions={"dense": 0.6, "alt": 0.2, "empty": 0.2}, batch=5)
    found = captions(mixed)
    kinds = Counter("dense" if c.startswith("dense") else "alt" if c else "empty" for c in found.values())
    assert 45 <= kinds["dense"] <= 80
    assert kinds["alt"] > 8
    assert kinds["empty"] > 8
    again = captions(stream(captions={"dense": 0.6, "alt": 0.2, "empty": 0.2}, batch=5))
    assert again == found
    later = captions(mixed)
    both = found.keys() & later.keys()
    assert any(later[key] != found[key] for key in both), "another epoch picks anew"


def test_the_primary_caption_is_the_text_member(stream: Make) -> None:
    for batch in stream():
        assert batch.captions == [bytes(s.members["txt"]).decode() for s in batch.samples]


def test_a_kind_of_caption_that_is_not_there_is_refused(stream: Make) -> None:
    with pytest.raises(ConfigError, match=r"captions.short.*there is primary, empty, alt, dense"):
        stream(captions={"short": 1})


def test_a_batch_that_cannot_be_shared_out_is_refused(stream: Make) -> None:
    with pytest.raises(ConfigError, match="12 samples cannot be shared out evenly to 5 ranks"):
        stream(0, 5)


def test_a_folder_that_is_no_corpus_is_refused(stream: Make, tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpora\.0.*curate index"):
        stream(corpora=[{"path": str(tmp_path)}])
    with pytest.raises(ConfigError, match=f"a corpus is a folder like {corpus}"):
        stream(corpora=[{"path": str(corpus.parent)}])


def test_one_shard_does_for_sixteen_ranks(stream: Make, tmp_path: Path) -> None:
    folder = pack(tmp_path, [picture(i, (80, 80)) for i in range(40)], resolution=64, shard_samples=100).folder
    ranks = [keys(stream(r, 16, corpora=[{"path": str(folder)}], batch=16, tails="pad")) for r in range(16)]
    assert {len(batches) for batches in ranks} == {3}
    assert len({key for batches in ranks for batch in batches for key in batch}) == 40


def test_a_stream_that_is_let_go_leaves_no_files_open(stream: Make) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    one = stream()
    keys(one, 3)
    assert len(os.listdir("/proc/self/fd")) > before
    del one
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
