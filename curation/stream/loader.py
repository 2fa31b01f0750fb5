"""The stream for torch: batches decoded in worker processes, in the same order for any number of them.

    loader = CorpusLoader(CorpusStream(settings, rank=rank, world=world), workers=4, resolution=512)
    for batch in loader:                  # a dict: pixels uint8 [B, 3, H, W], captions, sizes, keys
        state = loader.state_dict()       # of the batches that were handed out, not of those read ahead

`StreamDataset` is what stands behind it: an `IterableDataset` of whole batches for a plain `DataLoader`
(`batch_size=None`) and for `torchdata`'s `StatefulDataLoader`. `accelerate` leaves a `CorpusLoader` as it is, also in
`prepare`: ranks are shared out already.
"""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from curation.encode.view import CachedView, cached_view
from curation.errors import CorruptionError
from curation.stream.decode import Decoder, Picture
from curation.stream.order import key_of
from curation.stream.stream import Batch, CorpusStream

TorchBatch = dict[str, Any]
"""`pixels` uint8 [B, 3, H, W]; `captions`, `keys` lists of B strings; `original_sizes`, `crop_top_lefts` and
`target_sizes` int64 [B, 2] (height, width; top, left); `epoch`, `step` numbers; `damaged` messages.

Of a corpus that the stage `encode` wrote: `latents` [B, C, h, w] instead of `pixels`, as the VAE gives them (not
scaled); `semantic` [B, C, h, w], as the compressor gives them, beside `pixels` where the corpus keeps pictures and they
are wanted; `text` [B, T, D] and `pooled` [B, P] of the captions; all in the type that they are stored in."""


PLACES = 256
"""Worker processes that leave word of what they have begun; more of them share places."""


class StreamDataset(IterableDataset[TorchBatch]):
    """Batches from the stream's state to the end of its epoch; each worker process takes every n-th.

    Each further iteration is the next epoch from its start, also after a `break`, however workers start and whether
    they live on or not; the first one after `set_state` or `load_state_dict` begins there.
    """

    def __init__(
        self, stream: CorpusStream, resolution: int | None = None, *, upscale: bool = False, pictures: bool = True
    ) -> None:
        """As `CorpusLoader`. Raises ConfigError where stored tensors are not what the stream's settings ask for."""
        super().__init__()
        self.stream = stream
        decoder = Decoder(resolution, upscale)
        self._view = cached_view(stream.samples.corpora, stream.settings, decoder, pictures) or decoder
        # Shared memory, for workers hold copies of all else. The order: epoch, step, whether every iteration is there.
        self._order = torch.tensor([stream.epoch, stream.step, 0]).share_memory_()  # type: ignore[no-untyped-call]
        # What each worker has begun last: the iteration (31 bits), its epoch (31), whether it is there by order (1).
        self._begun = torch.zeros(PLACES, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._iterations = 0
        self._loaded = False
        self._given = 0

    @property
    def sizes(self) -> frozenset[tuple[int, int]]:
        """As `CorpusLoader.sizes`."""
        return frozenset(self._view.size(shape) for corpus in self.stream.samples.corpora for shape in corpus.buckets)

    def __len__(self) -> int:
        return len(self.stream) - self.stream.step

    def set_state(self, epoch: int, step: int, *, always: bool = False) -> None:
        """Where the next iteration begins, in this process and in workers that live on; `always`: all that follow."""
        self._begun.zero_()
        self._order.copy_(torch.tensor([epoch, step, int(always)]))

    def __iter__(self) -> Iterator[TorchBatch]:
        # No generator itself: `StatefulDataLoader` asks for the state before it asks for the first batch.
        info = get_worker_info()
        worker, workers, seed = (info.id, info.num_workers, info.seed - info.id) if info else (0, 1, 0)
        self._iterations += 1
        iteration = key_of(seed, self._iterations) >> 33 | 1
        first = False
        if not self._loaded:
            self.stream.epoch, self.stream.step, first = self._next(iteration)
            self._given = 0
        self._loaded = False
        self._begun[worker % PLACES] = iteration << 32 | self.stream.epoch << 1 | first
        return self._batches(worker + self._given * workers, workers)

    def _next(self, iteration: int) -> tuple[int, int, bool]:
        """Epoch and step where an iteration begins, and whether by order: the same for all its workers.

        They need no lock: each writes its own place alone, in one go, and finds the same before and after the others.
        """
        epoch, step, always = self._order.tolist()
        begun = [place for place in self._begun.tolist() if place]
        mine = [place for place in begun if place >> 32 == iteration]
        if always or not begun or (mine and mine[0] & 1):
            return epoch, step, True
        epochs = [place >> 1 & 0x7FFFFFFF for place in mine or begun]
        return max(epochs) + (not mine), 0, False

    def _batches(self, first: int, workers: int) -> Iterator[TorchBatch]:
        for batch in self.stream.share(first, workers, self._view):
            self._given += 1
            yield as_tensors(batch, self._view)

    def state_dict(self) -> dict[str, Any]:
        """Where this iteration began, and how many batches this worker has given since: for `StatefulDataLoader`."""
        return {"stream": self.stream.state_dict(), "given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, in a worker of the same number among as many. Raises ConfigError."""
        self.stream.load_state_dict(state["stream"])
        self._given = int(state["given"])
        self._loaded = True


def as_tensors(batch: Batch, view: Decoder | CachedView) -> TorchBatch:
    """A batch whose views are those of `view`, as tensors; without samples, of length 0."""
    size = view.size(batch.shape)
    tensors: TorchBatch = {}
    places = batch.views
    if isinstance(view, CachedView):
        tensors = view.tensors(batch.views, batch.kinds, batch.shape)
        places = [encoded.place for encoded in batch.views]
    if isinstance(view, Decoder) or view.pictures:
        tensors["pixels"] = _pixels(places, size)
    return {
        **tensors,
        "captions": batch.captions,
        "keys": [sample.key for sample in batch.samples],
        "original_sizes": _pairs(p.original_size for p in places),
        "crop_top_lefts": _pairs(p.crop_top_left for p in places),
        "target_sizes": _pairs((size[1], size[0]) for _ in places),
        "epoch": batch.epoch,
        "step": batch.step,
        "damaged": batch.damaged,
    }


def _pixels(pictures: Sequence[Picture], size: tuple[int, int]) -> torch.Tensor:
    """uint8 [B, 3, H, W] of pictures of `size` (width, height)."""
    pixels = torch.empty((len(pictures), size[1], size[0], 3), dtype=torch.uint8)
    for place, picture in zip(pixels, pictures, strict=True):
        place.numpy()[:] = picture.pixels
    return pixels.permute(0, 3, 1, 2).contiguous()


def _pairs(numbers: Iterable[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor(list(numbers), dtype=torch.int64).reshape(-1, 2)


def _leave_signals(worker: int) -> None:
    """In a worker: the main process answers a signal that the whole group is sent, and still wants batches for it.

    A second SIGTERM ends it; `_end_workers` sees to it that no first one is needed when the main process ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signum, signal.SIG_DFL))


def _end_workers(loader: weakref.ref[DataLoader[TorchBatch]]) -> None:
    """At the end of the main process: ask workers to end, before `multiprocessing` sends them one SIGTERM and waits.

    To let the iterator go would not do: a generator, a traceback or a variable may still hold it.
    """
    if (alive := loader()) is not None and (iterator := alive._iterator) is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]


class CorpusLoader:
    """A `DataLoader` over a stream whose state is that of the batches that were handed out."""

    def __init__(
        self,
        stream: CorpusStream,
        *,
        workers: int = 0,
        resolution: int | None = None,
        upscale: bool = False,
        pictures: bool = True,
        prefetch: int = 2,
        pin_memory: bool = False,
        context: str | None = None,
    ) -> None:
        """`pictures`: decode them where the corpus keeps them beside semantic latents; without, they stay unread.
        `context`: how workers start, "fork", "spawn" or "forkserver"; by default as the platform does.
        """
        self.stream = stream
        options: dict[str, Any] = {"prefetch_factor": prefetch, "multiprocessing_context": context} if workers else {}
        self._dataset = StreamDataset(stream, resolution, upscale=upscale, pictures=pictures)
        self._loader: DataLoader[TorchBatch] = DataLoader(
            self._dataset,
            batch_size=None,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_signals,
            **options,
        )
        if workers:
            atexit.register(_end_workers, weakref.ref(self._loader))

    @property
    def sizes(self) -> frozenset[tuple[int, int]]:
        """(width, height) that pictures come in, or came in when they were encoded."""
        return self._dataset.sizes

    def __len__(self) -> int:
        """Batches of the whole epoch, the same for every rank."""
        return len(self.stream)

    def __iter__(self) -> Iterator[TorchBatch]:
        """From the state to the end of the epoch; then the state is the next one's start."""
        stream = self.stream
        epoch, damaged = stream.epoch, 0
        self._dataset.set_state(epoch, stream.step, always=True)
        for batch in self._loader:
            damaged += len(batch["damaged"])  # the workers count each for itself
            if damaged > stream.settings.damage_budget:
                raise CorruptionError(f"{damaged} damaged samples in an epoch; the last: {batch['damaged'][-1]}")
            stream.epoch, stream.step = epoch, batch["step"] + 1
            yield batch
        stream.epoch, stream.step = epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """As `CorpusStream.state_dict`."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `CorpusStream.load_state_dict`."""
        self.stream.load_state_dict(state)
