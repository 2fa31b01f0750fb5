"""What do latents in the shards save?   python -m benchmarks.cache [--samples 96] [--rounds 3]

Bytes of a sample and samples a second of one reading process, at 1024 pixels: pictures (decoded), latents of SDXL's
shape (4 × 128 × 128), and semantic latents of Würstchen's (16 × 24 × 24, "ours"), each with and without the embeddings
of one caption, in shards that the stage `encode` wrote. Its models are stand-ins that draw numbers: how many bytes they
take, and how fast they are read, does not depend on what they mean. All is read from the page cache. What Stage C saves
on a picture is told by itself: decoding it, and an EfficientNet-V2-S (of random weights) that makes semantic latents.

The last cases are a step of training on a batch in memory, with the embedded world's small models with random weights:
on latents and embeddings from the cache ("ours") against the same on pixels and captions.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.cache_steps import koala_step, prior_step
from benchmarks.measure import Case, alternate, report, wall_seconds
from benchmarks.pack import Photos, _work
from benchmarks.photos import cut, material
from curation.config import EncodeSettings, PackSettings
from curation.config.stream import StreamSettings
from curation.encode.encoder import Encoder
from curation.encode.member import Text
from curation.encode.signatures import Signatures
from curation.encode.stage import Encode
from curation.encode.wuerstchen import WuerstchenEncoder
from curation.pack.layout import Layout
from curation.pack.stage import Pack
from curation.storage import Folder
from curation.stream.corpus import open_corpus
from curation.stream.loader import CorpusLoader
from curation.stream.stream import CorpusStream
from curation.wuerstchen.compressor import SemanticCompressor

SIDE, QUALITY = 1024, 92
CONFIG: dict[str, Any] = {"name": "bench", "source": []}
SDXL = {"model": "stabilityai/stable-diffusion-xl-base-1.0"}
SEMANTIC = {"semantic": {"model": "dome272/wuerstchen", "file": "model_v2_stage_b.pt"}}
TEXT = {"text": {"model": "warp-ai/wuerstchen-prior", "subfolder": "text_encoder", "tokenizer": "tokenizer"}}
PASSES = 4
"""Epochs of one reading of tensors; of pictures one."""


class DrawnSemantic(WuerstchenEncoder):
    """Würstchen's shapes, of no model."""

    def setup(self, device: torch.device, dtype: torch.dtype) -> None:
        pass

    def semantic(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.randn(len(pictures), 16, 24, 24)

    def texts(self, captions: Sequence[str]) -> list[Text]:
        return [Text(torch.randn(77, 1280)) for _ in captions]


class Drawn(Encoder):
    """SDXL's shapes, of no model."""

    factor = 8

    def __init__(self, settings: EncodeSettings) -> None:
        super().__init__(settings)
        self.wuerstchen = DrawnSemantic(settings)
        self._alone = settings.model is None

    def signatures(self) -> Signatures:
        return {"drawn": 0}

    def setup(self) -> None:
        pass

    def latents(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.randn(len(pictures), 4, SIDE // self.factor, SIDE // self.factor)

    def texts(self, captions: Sequence[str]) -> list[Text]:
        if self._alone:
            return self.wuerstchen.texts(captions)
        return [Text(torch.randn(77, 2048), torch.randn(1280)) for _ in captions]

    @property
    def empty(self) -> Text:  # type: ignore[override]
        return self.texts([""])[0]


def packed(folder: Path, samples: int) -> Pack:
    """A packed corpus of square photos."""
    output = Folder(folder)
    bank = Photos(output, [cut(("cache", i), SIDE, SIDE, quality=QUALITY) for i in range(samples)])
    bank.run()
    settings = PackSettings(resolution=SIDE, quality=QUALITY, shard_samples=samples)
    layout = Layout(output, bank, settings, 0, bank.folder)
    layout.run()
    pack = Pack(output, layout, settings, bank.folder, CONFIG)
    pack.setup(workers=1)
    asyncio.run(_work(pack))
    pack.settle()
    return pack


def encoded(pack: Pack, folder: Path, **given: Any) -> str:
    """The folder of the corpus that encode makes of it with stand-ins for models."""
    settings = EncodeSettings.model_validate({"run": {"batch": 16}, **given})
    stage = Encode(Folder(folder), pack, settings, "alt", CONFIG, Drawn(settings))
    stage.setup(workers=1)
    asyncio.run(_encode(stage))
    stage.close()
    stage.settle()
    return stage.folder.url


async def _encode(stage: Encode) -> None:
    for partition in stage.unfinished():
        async for _ in stage.work(partition):
            pass


def bytes_each(corpus: str) -> float:
    """Bytes of a sample in its shard, all members and the tar around them."""
    found = open_corpus(corpus)
    return sum(shard.bytes for shard in found.shards) / len(found.shard)


def rate(corpus: str, passes: int) -> float:
    """Samples a second, as tensors of a batch, in this process; the epoch before them warms up."""
    settings = {"corpora": [{"path": corpus}], "batch": 16}
    loader = CorpusLoader(CorpusStream(StreamSettings.model_validate(settings)))
    count, started = 0, 0.0
    for turn in range(passes + 1):
        if turn == 1:
            count, started = 0, time.perf_counter()
        for batch in loader:
            count += len(batch["keys"])
    return count / (time.perf_counter() - started)


def compress(compressor: SemanticCompressor) -> float:
    """Pictures a second through a compressor, which are in memory and decoded, on one core."""
    pixels = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    with torch.no_grad():
        return len(pixels) / wall_seconds(partial(compressor, pixels))


def seconds_a_step(step: Callable[[int], None], steps: int) -> float:
    """Seconds on the clock; one step warms up."""
    step(0)
    started = time.perf_counter()
    for number in range(1, steps + 1):
        step(number)
    return (time.perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=96, help="of 1024 x 1024 pixels; a multiple of 16")
    parser.add_argument("--steps", type=int, default=5, help="of a training, a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    cases = []
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as scratch:
        pack = packed(Path(scratch), given.samples)
        pictures = pack.folder.url
        for title, sdxl, semantic, goal in (
            ("pictures or latents", {**SDXL, "texts": ()}, SEMANTIC, "< all"),
            ("with the embeddings of a caption", SDXL, {**SEMANTIC, **TEXT}, "< SDXL latents"),
        ):
            corpora = {
                "pixels": pictures,
                "SDXL latents": encoded(pack, Path(scratch) / f"sdxl {title}", **sdxl),
                "ours": encoded(pack, Path(scratch) / f"semantic {title}", **semantic),
            }
            sizes = {name: bytes_each(corpus) for name, corpus in corpora.items()}
            cases.append(Case(f"1024 px, {title}", "bytes", sizes.pop("ours"), sizes, goal=goal))
            runs = {
                name: partial(rate, corpus, PASSES if corpus != pictures else 1) for name, corpus in corpora.items()
            }
            rates = alternate(runs, given.rounds)
            mine = rates.pop("ours")
            cases.append(Case(f"1024 px, {title}, read", "samples/s", mine, rates, goal="> all"))
            if semantic is SEMANTIC:
                trunk = SemanticCompressor(trunk="efficientnet_v2_s").eval()
                made = alternate({"compressor": partial(compress, trunk)}, given.rounds)["compressor"]
                both = 1 / (1 / rates["pixels"] + 1 / made)
                what = "1024 px, semantic latents read or computed"
                cases.append(Case(what, "samples/s", mine, {"pixels": both}, goal="> pixels"))
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as scratch:
        for title, make in (("KOALA", koala_step), ("Stage C", partial(prior_step, Path(scratch)))):
            steps = {name: make(cached=name == "ours") for name in ("ours", "pixels")}
            times = alternate(
                {name: partial(seconds_a_step, step, given.steps) for name, step in steps.items()}, given.rounds
            )
            cases.append(Case(f"a step of {title}, small models", "s", times.pop("ours"), times, goal="< pixels"))
    notes = [
        f"{given.samples} pictures, {material()}; JPEGs of quality {QUALITY}",
        f"one process, medians of {given.rounds} rounds in turn",
        "pixels with embeddings: the same shards as without; captions are then encoded in training",
    ]
    report("cache", cases, notes)


if __name__ == "__main__":
    main()
