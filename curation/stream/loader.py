"""The stream for torch: batches decoded in worker processes, in the same order for any number of them.

    loader = CorpusLoader(CorpusStream(settings, rank=rank, world=world), workers=4, resolution=512)
    for batch in loader:                  # a dict: pixels uint8 [B, 3, H, W], captions, sizes, keys
        state = loader.state_dict()       # of the batches that were handed out, not of those read ahead

`StreamDataset` is what stands behind it: an `IterableDataset` of whole batches for a plain `DataLoader`
(`batch_size=None`) and for `torchdata`'s `StatefulDataLoader`. `accelerate` leaves a `CorpusLoader` as it is, also in
`prepare`: ranks are shared out already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from curation.stream.decode import Decoder
from curation.stream.stream import Batch, CorpusStream

TorchBatch = dict[str, Any]
"""`pixels` uint8 [B, 3, H, W]; `captions`, `keys` lists of B strings; `original_sizes`, `crop_top_lefts` and
`target_sizes` int64 [B, 2] (height, width; top, left); `epoch`, `step` numbers; `damaged` messages."""


class StreamDataset(IterableDataset[TorchBatch]):
    """Batches from the stream's state to the end of its epoch; each worker process takes every n-th.

    Workers that live on (`persistent_workers`) go on to the next epoch by themselves, and hear of `set_state`.
    """

    def __init__(self, stream: CorpusStream, resolution: int | None = None) -> None:
        super().__init__()
        self.stream = stream
        self._decoder = Decoder(resolution)
        # Orders to workers that live on: a number, epoch, step. In shared memory, for all else they hold copies of.
        self._order = torch.tensor([0, stream.epoch, stream.step]).share_memory_()  # type: ignore[no-untyped-call]
        self._heard = 0
        self._given = 0
        self._skip = 0

    def __len__(self) -> int:
        return len(self.stream) - self.stream.step

    def set_state(self, epoch: int, step: int) -> None:
        """Where the next iteration begins, in this process and in workers that live on."""
        self._order.copy_(torch.tensor([int(self._order[0]) + 1, epoch, step]))

    def __iter__(self) -> Iterator[TorchBatch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        order, epoch, step = self._order.tolist()
        if order != self._heard:
            self._heard, self.stream.epoch, self.stream.step = order, epoch, step
        skip, self._skip = self._skip, 0
        self._given = skip
        for batch in self.stream.share(worker + skip * workers, workers, self._decoder):
            self._given += 1
            yield as_tensors(batch)
        self.stream.epoch, self.stream.step = self.stream.epoch + 1, 0
        self._given = 0

    def state_dict(self) -> dict[str, Any]:
        """The stream's state, and how many batches this worker has given since: what `StatefulDataLoader` keeps."""
        return {"stream": self.stream.state_dict(), "given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, in a worker of the same number among as many. Raises ConfigError."""
        self.stream.load_state_dict(state["stream"])
        self._skip = int(state["given"])


def as_tensors(batch: Batch) -> TorchBatch:
    """A batch whose views are `Picture`s, as tensors."""
    pictures = batch.views
    pixels = torch.from_numpy(np.stack([p.pixels for p in pictures])).permute(0, 3, 1, 2).contiguous()
    return {
        "pixels": pixels,
        "captions": batch.captions,
        "keys": [sample.key for sample in batch.samples],
        "original_sizes": torch.tensor([p.original_size for p in pictures]),
        "crop_top_lefts": torch.tensor([p.crop_top_left for p in pictures]),
        "target_sizes": torch.tensor([pixels.shape[2:]] * len(pictures)),
        "epoch": batch.epoch,
        "step": batch.step,
        "damaged": batch.damaged,
    }


class CorpusLoader:
    """A `DataLoader` over a stream whose state is that of the batches that were handed out."""

    def __init__(
        self,
        stream: CorpusStream,
        *,
        workers: int = 0,
        resolution: int | None = None,
        prefetch: int = 2,
        pin_memory: bool = False,
        context: str | None = None,
    ) -> None:
        """`context`: how workers start, "fork", "spawn" or "forkserver"; by default as the platform does."""
        self.stream = stream
        options: dict[str, Any] = {"prefetch_factor": prefetch, "multiprocessing_context": context} if workers else {}
        self._dataset = StreamDataset(stream, resolution)
        self._loader: DataLoader[TorchBatch] = DataLoader(
            self._dataset,
            batch_size=None,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            **options,
        )

    def __len__(self) -> int:
        """Batches of the whole epoch, the same for every rank."""
        return len(self.stream)

    def __iter__(self) -> Iterator[TorchBatch]:
        """From the state to the end of the epoch; then the state is the next one's start."""
        stream = self.stream
        epoch = stream.epoch
        self._dataset.set_state(epoch, stream.step)
        for batch in self._loader:
            stream.epoch, stream.step = epoch, batch["step"] + 1
            yield batch
        stream.epoch, stream.step = epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """As `CorpusStream.state_dict`."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `CorpusStream.load_state_dict`."""
        self.stream.load_state_dict(state)
