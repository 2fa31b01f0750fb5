"""The torch side: the same batches from any number of workers, however they start, and states that can be trusted."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from curation.errors import CorruptionError
from curation.stream.loader import CorpusLoader, StreamDataset
from tests.journey import ROOT
from tests.stream.conftest import Make
from tests.stream.foreign import foreign_corpus
from tests.stream.range_server import RangeServer


def batches(loader: Any, count: int | None = None) -> list[list[str]]:
    return [batch["keys"] for batch in islice(iter(loader), count)]


@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (4, "fork"), (2, "spawn")])
def test_any_number_of_workers_gives_the_same_batches_for_two_epochs(stream: Make, workers: int, context: str) -> None:
    alone, many = CorpusLoader(stream()), CorpusLoader(stream(), workers=workers, context=context)
    for _ in range(2):
        assert batches(many) == batches(alone)


def test_what_a_batch_holds(stream: Make) -> None:
    for batch in CorpusLoader(stream()):
        pixels = batch["pixels"]
        assert pixels.dtype == torch.uint8
        assert pixels.shape[:2] == (12, 3)
        assert batch["original_sizes"].shape == batch["crop_top_lefts"].shape == batch["target_sizes"].shape == (12, 2)
        assert set(map(tuple, batch["target_sizes"].tolist())) == {tuple(pixels.shape[2:])}
        assert set(map(tuple, batch["original_sizes"].tolist())) <= {(80, 80), (80, 120), (120, 80)}
        assert len(batch["captions"]) == len(batch["keys"]) == 12


def test_pixels_are_those_of_the_shard(stream: Make) -> None:
    (raw, batch), *_ = zip(stream(), CorpusLoader(stream()), strict=True)
    for sample, pixels in zip(raw.samples, batch["pixels"], strict=True):
        with Image.open(io.BytesIO(sample.image)) as image:
            assert np.abs(np.asarray(image).astype(int) - pixels.permute(1, 2, 0).numpy()).max() <= 3


def test_a_lower_resolution_keeps_shape_and_conditioning(stream: Make) -> None:
    for small, large in zip(CorpusLoader(stream(), resolution=32), CorpusLoader(stream()), strict=True):
        assert small["pixels"].shape[2] * small["pixels"].shape[3] == pytest.approx(32 * 32, rel=0.3)
        assert small["pixels"].shape[2] % 8 == 0
        assert small["original_sizes"].equal(large["original_sizes"])
        mean = [t["pixels"].float().mean(dim=(1, 2, 3)) for t in (small, large)]
        assert (mean[0] - mean[1]).abs().max() < 8


def test_small_pictures_are_enlarged_only_where_that_is_wanted(stream: Make) -> None:
    loaders = (CorpusLoader(stream(), resolution=128, upscale=upscale) for upscale in (False, True))
    packed, enlarged = (next(iter(loader)) for loader in loaders)
    assert packed["keys"] == enlarged["keys"]
    height, width = packed["pixels"].shape[-2:]
    assert enlarged["pixels"].shape[-2:] == (2 * height, 2 * width)
    assert enlarged["target_sizes"].tolist() == [[2 * height, 2 * width]] * 12
    # They were packed at a fraction of what they came from; no more than that is there to be seen.
    assert (packed["original_sizes"] > torch.tensor([height, width])).all()
    assert enlarged["original_sizes"].tolist() == [[height, width]] * 12
    again = torch.nn.functional.avg_pool2d(enlarged["pixels"].float(), 2)
    assert (again - packed["pixels"]).abs().mean() < 3


def test_a_signal_to_all_of_the_group_leaves_the_workers_at_work(stream: Make) -> None:
    loader, alone = CorpusLoader(stream(), workers=2), CorpusLoader(stream())
    found = iter(loader)
    keys = [next(found)["keys"], next(found)["keys"]]  # of both of them
    workers = loader._loader._iterator._workers  # type: ignore[union-attr]
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert keys + [batch["keys"] for batch in found] == batches(alone)


@pytest.mark.parametrize(
    "rest",
    ["del it", "def held():\n    yield from it\nkept = held(); next(kept)", "1 / 0"],
    ids=["let go", "a generator", "a traceback"],
)
def test_a_script_whose_loader_has_workers_comes_to_its_end(corpus: Path, rest: str) -> None:
    script = f"""
from curation.config import StreamSettings
from curation.stream.loader import CorpusLoader
from curation.stream.stream import CorpusStream
settings = StreamSettings.model_validate({{"corpora": [{{"path": {str(corpus)!r}}}], "batch": 4}})
loader = CorpusLoader(CorpusStream(settings), workers=2)
it = iter(loader)
print(len(next(it)["keys"]))
{rest}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.stdout == "4\n", done.stderr
    assert done.returncode == (rest == "1 / 0")


@pytest.mark.parametrize("workers", [0, 3])
def test_a_loader_goes_on_after_the_batch_that_was_handed_out(stream: Make, workers: int) -> None:
    whole = batches(CorpusLoader(stream()))
    one = CorpusLoader(stream(), workers=workers)
    assert batches(one, 3) == whole[:3]
    other = CorpusLoader(stream(), workers=2)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert batches(other) == whole[3:]
    assert batches(one) == whole[3:], "and so does the loader itself"
    one.load_state_dict(CorpusLoader(stream()).state_dict())
    assert batches(one) == whole, "and it can be sent back"


def test_a_plain_data_loader_with_workers_that_live_on(stream: Make) -> None:
    alone = CorpusLoader(stream())
    loader = DataLoader(StreamDataset(stream()), batch_size=None, num_workers=2, persistent_workers=True)
    for _ in range(3):
        assert batches(loader) == batches(alone)


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_stateful_data_loader(stream: Make, workers: int) -> None:
    whole = batches(CorpusLoader(stream()))
    one = StatefulDataLoader(StreamDataset(stream()), batch_size=None, num_workers=workers)
    assert batches(one, 4) == whole[:4]
    other = StatefulDataLoader(StreamDataset(stream()), batch_size=None, num_workers=workers)
    other.load_state_dict(one.state_dict())
    assert batches(other) == whole[4:]


def test_accelerate_does_not_share_it_out_again(stream: Make) -> None:
    loader = CorpusLoader(stream(1, 2))
    assert Accelerator(cpu=True).prepare(loader) is loader


def plain(kind: type[DataLoader[Any]], stream: Make, workers: int, live_on: bool) -> DataLoader[Any]:
    return kind(StreamDataset(stream()), batch_size=None, num_workers=workers, persistent_workers=live_on)


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize(("workers", "live_on"), [(0, False), (2, False), (2, True)])
def test_each_iteration_is_the_next_epoch(
    stream: Make, kind: type[DataLoader[Any]], workers: int, live_on: bool
) -> None:
    alone = CorpusLoader(stream())
    epochs = [batches(alone) for _ in range(4)]
    loader = plain(kind, stream, workers, live_on)
    assert batches(loader) == epochs[0]
    assert batches(loader, 2) == epochs[1][:2]
    assert batches(loader, len(epochs[2])) == epochs[2], "also after a break, and one after the last batch"
    assert batches(loader) == epochs[3]


def test_an_iteration_can_be_sent_elsewhere(stream: Make) -> None:
    alone = CorpusLoader(stream())
    epochs = [batches(alone) for _ in range(3)]
    dataset = StreamDataset(stream())
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    assert batches(loader, 1) == epochs[0][:1]
    dataset.set_state(1, 3)
    assert batches(loader) == epochs[1][3:]
    assert batches(loader) == epochs[2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 4, -1])
def test_torchdatas_loader_goes_on_in_a_later_epoch(stream: Make, workers: int, taken: int) -> None:
    alone = CorpusLoader(stream())
    epochs = [batches(alone) for _ in range(3)]
    one = plain(StatefulDataLoader, stream, workers, False)
    assert batches(one) == epochs[0]
    it = iter(one)
    found = [batch["keys"] for batch in (it if taken < 0 else islice(it, taken))]
    assert found == epochs[1][: len(found)]
    other = plain(StatefulDataLoader, stream, workers, False)
    other.load_state_dict(one.state_dict())  # type: ignore[attr-defined]
    if taken >= 0:
        assert batches(other) == epochs[1][taken:]
    assert batches(other) == epochs[2]


def test_a_batch_of_which_nothing_is_left_is_empty(stream: Make, tmp_path: Path) -> None:
    folder = foreign_corpus(tmp_path, count=8, broken=8)
    one = CorpusLoader(stream(corpora=[{"path": str(folder)}], batch=4, damage="skip", tails="merge"), resolution=32)
    for batch in one:
        assert batch["pixels"].shape[:2] == (0, 3)
        assert batch["pixels"].shape[2] * batch["pixels"].shape[3] == pytest.approx(32 * 32, rel=0.3)
        assert batch["original_sizes"].shape == batch["target_sizes"].shape == (0, 2)
        assert batch["original_sizes"].dtype == torch.int64
        assert len(batch["damaged"]) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_the_budget_counts_for_all_workers_together(stream: Make, tmp_path: Path, workers: int) -> None:
    folder = foreign_corpus(tmp_path, count=8, broken=8)
    settings = {"corpora": [{"path": str(folder)}], "batch": 2, "damage": "skip", "tails": "merge"}
    with pytest.raises(CorruptionError, match="damaged samples in an epoch"):
        batches(CorpusLoader(stream(**settings, damage_budget=5), workers=workers))
    assert batches(CorpusLoader(stream(**settings, damage_budget=8), workers=workers)) == [[]] * 4


def test_a_stream_that_was_read_here_can_be_read_in_forked_workers(stream: Make, corpus: Path) -> None:
    with RangeServer(corpus) as server:
        one = stream(corpora=[{"path": server.url}])
        whole = batches(CorpusLoader(one))
        one.epoch = 0
        assert batches(CorpusLoader(one, workers=2, context="fork")) == whole
