"""One reading by our stream, in a process of its own: what `benchmarks/stream.py` starts.

    python -m benchmarks.stream_ours stream|floor|resume CORPUS PASSES SIDE

`stream` prints samples a second, undecoded (SIDE 0) or decoded to SIDE by SIDE; `floor` the same for a bare decode from
memory; `resume` seconds to the first batch in the middle of the epoch, and the peak resident bytes of the process.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import cv2

from curation.config.stream import StreamSettings
from curation.stream.decode import Decoder
from curation.stream.stream import CorpusStream

BATCH = 32


def opened(corpus: str) -> CorpusStream:
    return CorpusStream(StreamSettings.model_validate({"corpora": [{"path": corpus}], "batch": BATCH, "tails": "pad"}))


def rate(corpus: str, passes: int, side: int) -> float:
    """Samples a second over `passes` epochs; the one before them warms up."""
    stream = opened(corpus)
    view = Decoder(side) if side else None
    count, started = 0, 0.0
    for turn in range(passes + 1):
        if turn == 1:
            count, started = 0, time.perf_counter()
        for batch in stream.share(0, 1, view):
            count += len(batch.samples)
        stream.epoch += 1
    return count / (time.perf_counter() - started)


def floor(corpus: str, passes: int, side: int) -> float:
    """Samples a second of the decoder alone, on images in memory."""
    decoder = Decoder(side)
    held = [(sample, batch.shape) for batch in opened(corpus) for sample in batch.samples]
    started = time.perf_counter()
    for _ in range(passes):
        for sample, shape in held:
            decoder(sample, shape)
    return passes * len(held) / (time.perf_counter() - started)


def resume(corpus: str) -> list[float]:
    """[seconds to the first batch of a stream in the middle of its epoch, peak resident bytes]."""
    started = time.perf_counter()
    stream = opened(corpus)
    stream.load_state_dict({**stream.state_dict(), "epoch": 3, "step": len(stream.samples.bucket) // BATCH // 2})
    next(iter(stream))
    return [time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0]


if __name__ == "__main__":
    cv2.setNumThreads(1)
    what, corpus, passes, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if what == "resume":
        print(json.dumps(resume(corpus)))
    else:
        print(json.dumps((rate if what == "stream" else floor)(corpus, passes, side)))
