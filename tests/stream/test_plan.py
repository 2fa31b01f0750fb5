"""The plan of an epoch: policies for tails, thin buckets, mixing by weight."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from curation.config.stream import StreamSettings
from curation.errors import ConfigError
from curation.storage import Folder
from curation.stream.corpus import Corpus, ShardFile
from curation.stream.plan import Samples
from tests.stream.conftest import Make


def made_up(samples: int, shards: int, name: str, buckets: tuple[float, ...] = (1.0,)) -> Corpus:
    """A corpus of numbers alone."""
    dice = np.random.default_rng(samples)
    per_shard = samples // shards
    return Corpus(
        folder=Folder("/nowhere"),
        sha256=name * 64,
        shards=tuple(ShardFile(f"{i}.tar", per_shard, 1, "") for i in range(shards)),
        buckets=tuple((64 * (i + 1), 64) for i in range(len(buckets))),
        kinds=("alt",),
        shard=np.repeat(np.arange(shards, dtype=np.int32), per_shard),
        bucket=dice.choice(len(buckets), samples, p=buckets).astype(np.int16),
        offset=np.zeros(samples, np.int64),
        length=np.zeros(samples, np.int32),
        crc32c=np.zeros(samples, np.uint32),
    )


def planned(corpora: list[Corpus], weights: list[float] | None = None, **given: object) -> Samples:
    listed = [{"path": "/nowhere", "weight": w} for w in weights or [None] * len(corpora)]
    return Samples(corpora, StreamSettings.model_validate({"batch": 64, "corpora": listed, **given}))


@pytest.mark.parametrize("tails", ["drop", "pad", "merge"])
def test_tails(tails: str) -> None:
    samples = planned([made_up(3000, 10, "a", (0.5, 0.3, 0.19, 0.01))], tails=tails)
    plan = samples.plan(0)
    counts = Counter(plan.samples.ravel().tolist())
    assert len(counts) + len(plan.dropped) == 3000
    assert sum(counts.values()) - len(counts) == len(plan.padded)
    for shape, batch in zip(plan.shape, plan.samples, strict=True):
        same = samples.bucket[batch] == shape
        assert same.all() or (tails == "merge" and same.mean() > 0.25)
    assert bool(len(plan.dropped)) == (tails == "drop")
    assert len(plan.padded) < {"drop": 1, "pad": 4 * 64, "merge": 64}[tails]


def test_batches_of_small_buckets_are_strewn_over_the_epoch() -> None:
    plan = planned([made_up(20_000, 10, "a", (0.9, 0.1))]).plan(0)
    at = np.flatnonzero(plan.shape == 1) / len(plan.shape)
    assert at.min() < 0.1
    assert at.max() > 0.9


def test_mixing_by_weight_holds_within_half_a_percent() -> None:
    corpora = [made_up(70_000, 70, "a"), made_up(30_000, 30, "b")]
    samples = planned(corpora, [1.0, 3.0])
    turns: Counter[int] = Counter()
    for epoch in range(2):
        chosen = samples.plan(epoch).samples.ravel()
        assert len(chosen) > 99_900
        share = (chosen < 70_000).mean()
        assert abs(share - 0.25) < 0.005
        turns.update(chosen[chosen >= 70_000].tolist())
    # 150,000 draws of 30,000 samples: each comes five times, but for a few that a tail dropped
    assert 4.98 < np.mean(list(turns.values())) <= 5
    assert len(turns) == 30_000


def test_without_weights_each_sample_comes_once() -> None:
    plan = planned([made_up(6400, 10, "a"), made_up(640, 1, "b")]).plan(0)
    assert sorted(plan.samples.ravel().tolist()) == list(range(7040))


def test_a_bucket_under_a_batch_is_warned_of_with_its_keys(stream: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = stream(batch=40)
    thin = made.samples.thin()
    assert len(thin) == 2
    for rows in thin.values():
        assert made.samples.keys(rows[:1])[0] in caplog.text


def test_nothing_fills_a_batch(stream: Make) -> None:
    with pytest.raises(ConfigError, match="no bucket fills a batch of 400: set `tails`"):
        len(stream(batch=400))
    assert len(stream(batch=400, tails="merge")) == 1


def test_corpora_side_by_side(stream: Make, corpus: Path, other_corpus: Path) -> None:
    both = stream(corpora=[{"path": str(corpus)}, {"path": str(other_corpus)}], tails="merge")
    seen = {s.key for batch in both for s in batch.samples}
    assert len(seen) == 170 - 60  # keys are made of the row's number, which the second corpus repeats
    sources = Counter(number < 110 for batch in both.plan().samples for number in batch.tolist())
    assert sources[True] >= 110
    assert sources[False] >= 60


def test_weights_go_together() -> None:
    with pytest.raises(ValueError, match="has a weight, or none has"):
        StreamSettings.model_validate({"batch": 1, "corpora": [{"path": "a", "weight": 1}, {"path": "b"}]})


def test_a_sample_that_comes_again_is_not_beside_itself() -> None:
    samples = planned([made_up(6000, 6, "a"), made_up(60_000, 6, "b")], [1.0, 1.0])
    plan = samples.plan(0)
    own = [len(set(batch.tolist())) for batch in plan.samples]
    # each of a's 6,000 comes five or six times; by chance a few pairs of 32 meet in a batch (32² / 2 / 6000 = 0.09)
    assert np.mean(own) > 64 - 0.3


def test_a_tiny_corpus_beside_a_large_one() -> None:
    samples = planned([made_up(1, 1, "a"), made_up(200_000, 20, "b")], [0.9, 0.1])
    plan = samples.plan(3)
    assert (plan.samples == 0).mean() == pytest.approx(0.9, abs=0.001)


def test_turns_go_on_over_the_borders_of_epochs() -> None:
    samples = planned([made_up(700, 7, "a"), made_up(300, 3, "b")], [1.0, 2.0], batch=1)
    turns = [row for epoch in range(9) for row in sorted(samples.plan(epoch).samples.ravel().tolist())]
    counts = Counter(turns)
    assert len(turns) == 9000
    assert {counts[row] for row in range(700)} <= {3000 // 700, 3000 // 700 + 1}
    assert {counts[row] for row in range(700, 1000)} == {20}


def test_padding_takes_others_before_it_takes_the_same() -> None:
    samples = planned([made_up(70, 7, "a")], tails="pad")
    for epoch in range(5):
        assert all(len(set(batch.tolist())) == 64 for batch in samples.plan(epoch).samples)
    alone = planned([made_up(5, 1, "a")], tails="pad").plan(0)
    assert set(Counter(alone.samples.ravel().tolist()).values()) == {12, 13}


def test_thin_buckets_are_found_whatever_their_number() -> None:
    samples = planned([made_up(3000, 10, "a", (0.9, 0.01, 0.08, 0.01))])
    thin = samples.thin()
    assert set(thin) == {(128, 64), (256, 64)}
    for size, rows in thin.items():
        assert rows.tolist() == np.flatnonzero(samples.bucket == samples.shapes.index(size)).tolist()
    assert planned([made_up(3000, 10, "a")]).thin() == {}


@pytest.mark.parametrize("captions", [{"primary": float("nan")}, {"primary": float("inf")}, {"primary": -1}, {}])
def test_weights_are_numbers(captions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="captions"):
        StreamSettings.model_validate({"batch": 1, "corpora": [{"path": "a"}], "captions": captions})
    with pytest.raises(ValueError, match="weight"):
        StreamSettings.model_validate({"batch": 1, "corpora": [{"path": "a", "weight": float("inf")}]})
