"""The stream for torch: batches decoded in worker processes, in the same order for any number of them.

    loader = CorpusLoader(CorpusStream(settings, rank=rank, world=world), workers=4, resolution=512)
    for batch in loader:                  # dict: pixels uint8 [B, 3, H, W], captions, sizes, keys
        state = loader.state_dict()       # of the batches that were handed out, not of those read ahead

`StreamDataset` is what stands behind it: an `IterableDataset` of whole batches for a plain `DataLoader`
(`batch_size=None`), for `torchdata`'s `StatefulDataLoader`, and under `accelerate` (which must not shard it again: see
`docs/stream.md`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from curation.stream.decode import decode_batch
from curation.stream.stream import CorpusStream

TorchBatch = dict[str, Any]
"""`pixels` uint8 [B, 3, H, W]; `captions`, `keys` lists of B strings; `original_sizes`, `crop_top_lefts`, `target_sizes`
int64 [B, 2] (height, width; top, left); `epoch`, `step` numbers; `damaged` messages."""


class StreamDataset(IterableDataset[TorchBatch]):
    """Batches of one epoch from the stream's state on; each worker process takes every n-th.

    `state_dict` is that of the copy in this process: in workers `StatefulDataLoader` keeps it; elsewhere ask
    `CorpusLoader`.
    """

    def __init__(self, stream: CorpusStream, resolution: int | None = None) -> None:
        super().__init__()
        self.stream = stream
        self._resolution = resolution
        self._given = 0
        self._start = 0

    def __len__(self) -> int:
        return len(self.stream) - self.stream.step

    def __iter__(self) -> Iterator[TorchBatch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        if info is not None:
            torch.set_num_threads(1)
        skip, self._start = self._start, 0
        for i, batch in enumerate(self.stream.share(worker, workers)):
            if i < skip:
                continue
            self._given = i + 1
            yield as_tensors(decode_batch(batch, self._resolution))
        self._given = 0

    def state_dict(self) -> dict[str, Any]:
        """The stream's state, and how many batches this worker has given since."""
        return {"stream": self.stream.state_dict(), "given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, in a worker of the same number. Raises ConfigError."""
        self.stream.load_state_dict(state["stream"])
        self._start = int(state["given"])


def as_tensors(decoded: Any) -> TorchBatch:
    """A `DecodedBatch` with tensors in the place of arrays; see `TorchBatch`."""
    pixels = torch.from_numpy(decoded.pixels).permute(0, 3, 1, 2).contiguous()
    target: Tensor = torch.tensor(pixels.shape[2:], dtype=torch.int64).expand(len(pixels), 2)
    return {
        "pixels": pixels,
        "captions": decoded.captions,
        "keys": decoded.keys,
        "original_sizes": torch.from_numpy(decoded.original_sizes),
        "crop_top_lefts": torch.from_numpy(decoded.crop_top_lefts),
        "target_sizes": target.contiguous(),
        "epoch": decoded.epoch,
        "step": decoded.step,
        "damaged": decoded.damaged,
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
        self._options: dict[str, Any] = {"num_workers": workers, "pin_memory": pin_memory, "batch_size": None}
        if workers:
            self._options |= {"prefetch_factor": prefetch, "multiprocessing_context": context}
        self._resolution = resolution

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        return len(self.stream)

    def __iter__(self) -> Iterator[TorchBatch]:
        """To the end of the epoch; then the state is the next one's start."""
        stream = self.stream
        for batch in DataLoader(StreamDataset(stream, self._resolution), **self._options):
            stream.step = batch["step"] + 1
            yield batch
        stream.epoch, stream.step = stream.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """As `CorpusStream.state_dict`."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `CorpusStream.load_state_dict`."""
        self.stream.load_state_dict(state)
