"""Trains the frozen parts of Würstchen for the embedded world: Stage A, the semantic compressor, and Stage B.

    python -m curation.scenes.zoo.wuerstchen_parts [--steps N] [--vqgan-steps N]

Stage A is a VQGAN at f4, 12 × 12 latents of as many channels as the teacher's VAE has, so that a comparison of the two
families does not hang on their decoders. It learns by squared error and the quantiser's loss, without an adversary: the
studio's pictures are flat colours, which squared error does not blur. Half of each batch goes past the quantiser, for
Stage B works on latents that were not quantised.

The compressor is of f12, 4 × 4 latents of 16 channels, and learns together with Stage B, as in the paper: what helps to
remove noise from a picture's latents is what it keeps. Both are saved as a folder that `load_wuerstchen` reads and that
`wuerstchen_c` names its parts from. Stage B reads no text here: what a picture shows is Stage C's to say.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from curation.config.wuerstchen import CascadeSampling, DecoderSettings, LevelSettings, SemanticNoiseSettings
from curation.models import forget_places
from curation.scenes.studio import SIDE
from curation.scenes.zoo.cards import EVALUATION, Made, Quality, write_card
from curation.scenes.zoo.judged import judged
from curation.scenes.zoo.pictures import indices, pictures, scene_of
from curation.scenes.zoo.training import Training, arguments, device, in_bf16
from curation.scenes.zoo.vae import CHANNELS, HELD_OUT, PICTURES, PSNR, WHOLE, psnr
from curation.train.draws import Draws
from curation.train.flops import flops_of
from curation.wuerstchen.cascade import Cascade, load_wuerstchen
from curation.wuerstchen.compressor import SemanticCompressor
from curation.wuerstchen.models import PaellaVQModel, decoder_config, make_decoder
from curation.wuerstchen.parts import parameters
from curation.wuerstchen.schedule import alpha_bar, p2_weights
from curation.wuerstchen.stage_b import StageBModel, decoding_loss, latents_of, prepare_decoding

VQGAN_BATCH = 16
SEMANTIC = 16
"""Channels of the semantic latents."""
ERROR = 10.0
"""Weight of the squared error beside the quantiser's loss."""
LR, VQGAN_LR = 1e-3, 2e-3
NOISE = SemanticNoiseSettings()
DECODER = DecoderSettings(
    levels=(LevelSettings(width=64, blocks=2), LevelSettings(width=128, blocks=4)), conditioning=64, patch=1, dropout=0
)


def make_vqgan() -> PaellaVQModel:
    """The untrained Stage A. Its codes begin as far apart as its latents are: a batch norm stands before them."""
    vqgan = PaellaVQModel(
        bottleneck_blocks=4, embed_dim=64, latent_channels=CHANNELS, num_vq_embeddings=2048, scale_factor=1.0
    )
    torch.nn.init.normal_(vqgan.vquantizer.embedding.weight)
    return vqgan


def make_parts() -> StageBModel:
    """The untrained Stage B with its compressor."""
    decoder = make_decoder(decoder_config(DECODER, CHANNELS, SEMANTIC, text=1))
    return StageBModel(decoder, SemanticCompressor(channels=SEMANTIC), learns=True)


def as_pixels(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] to uint8 [B, 3, H, W] on the device."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device())


def train_vqgan(steps: int, batch: int, seed: int, work: Path, out: Path, *, count: int, judged_on: int) -> None:
    """Train Stage A on `count` pictures and save it with its card."""
    torch.manual_seed(seed)
    vqgan = make_vqgan().to(device())
    images, held_out = pictures(work, count), pictures(work, judged_on, held_out=True)

    def loss(step: int) -> Tensor:
        wanted = as_pixels(images[np.sort(indices(step, batch, count, seed))]).float() / 255
        vqgan.train()
        with in_bf16():
            latents = vqgan.encode(wanted).latents.float()
            quantised, apart, _ = vqgan.vquantizer(latents)
            half = batch // 2
            found = vqgan.decode(torch.cat([latents[:half], quantised[half:]])).sample
        total: Tensor = ERROR * F.mse_loss(found.float(), wanted) + apart
        return total

    training = Training("wuerstchen-vqgan", vqgan, work, steps=steps, lr=VQGAN_LR)
    training.run(loss)
    training.finish()
    with torch.no_grad():
        latents = latents_of(vqgan, as_pixels(images[:2048]))
    vqgan.register_to_config(scale_factor=round(float(latents.std()), 4))
    vqgan.cpu().half().save_pretrained(out)
    forget_places(out)
    made = Made(
        title="Stage A of the embedded world's Würstchen",
        about=f"A `PaellaVQModel` for pictures of the studio (`curation/scenes/studio.py`): {SIDE} × {SIDE} pixels to "
        f"{SIDE // 4} × {SIDE // 4} latents of {CHANNELS} channels and back.",
        command="python -m curation.scenes.zoo.wuerstchen_parts",
        seed=seed,
        steps=steps,
        batch=batch,
        seconds=training.seconds,
        parameters=parameters(vqgan),
    )
    write_card(out, made, quality(through(load_vqgan(out), held_out), held_out))


def load_vqgan(folder: Path) -> PaellaVQModel:
    """The saved Stage A, in float32."""
    return PaellaVQModel.from_pretrained(folder, torch_dtype=torch.float32).to(device()).eval().requires_grad_(False)


def through(vqgan: PaellaVQModel, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [B, H, W, 3] encoded and decoded again."""
    out = []
    for start in range(0, len(images), 64):
        with torch.no_grad():
            latents = latents_of(vqgan, as_pixels(images[start : start + 64]))
            found = vqgan.decode(latents * vqgan.config.scale_factor).sample
        out.append((found.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


def train_parts(steps: int, batch: int, seed: int, work: Path, out: Path, *, count: int, judged_on: int) -> None:
    """Train compressor and Stage B on `count` pictures, save them beside Stage A, measure, and write the card."""
    torch.manual_seed(seed)
    vqgan, parts = load_vqgan(out / "vqgan"), make_parts().to(device())
    assert parts.compressor is not None
    images, held_out = pictures(work, count), pictures(work, judged_on, held_out=True)
    semantic = (SEMANTIC, *parts.compressor.latent_size(SIDE, SIDE))

    def loss(step: int) -> Tensor:
        pixels = as_pixels(images[np.sort(indices(step, batch, count, seed))])
        parts.train()
        with torch.no_grad():
            prepared = prepare_decoding(latents_of(vqgan, pixels), pixels, semantic, None, Draws(seed, step, 0), NOISE)
        with in_bf16():
            found = decoding_loss(parts, prepared)
        return (p2_weights(alpha_bar(prepared.times)) * found).mean()

    training = Training("wuerstchen-parts", parts, work, steps=steps, lr=LR)
    training.run(loss)
    flops = steps * flops_of(lambda: loss(0).backward())  # type: ignore[no-untyped-call]
    training.finish()
    cascade = Cascade(parts.decoder, vqgan, parts.compressor, CascadeSampling(size=(SIDE, SIDE)))
    for part in (parts.decoder, vqgan, parts.compressor):
        part.cpu().half()
    cascade.save(out)
    h, w = semantic[1:]
    made = Made(
        title="The embedded world's Würstchen, but for Stage C",
        about=f"Pictures of the studio (`curation/scenes/studio.py`) to {h} × {w} semantic latents of {SEMANTIC} "
        "channels (`compressor`), and these to pictures again (`decoder`, `vqgan`); the two learnt together.",
        command=f"python -m curation.scenes.zoo.wuerstchen_parts --steps {steps} --batch {batch} --seed {seed}",
        seed=seed,
        steps=steps,
        batch=batch,
        seconds=training.seconds,
        parameters=parameters(parts),
        flops=flops,
    )
    write_card(out, made, quality(through_all(load_wuerstchen(out), held_out), held_out))


def through_all(cascade: Cascade, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [B, H, W, 3] compressed, and made again by stages B and A."""
    out = []
    for start in range(0, len(images), 64):
        pixels = as_pixels(images[start : start + 64]).cpu()
        with torch.no_grad():
            semantic = cascade.compressor(pixels)
        seeds = range(start, start + len(pixels))
        out += [np.asarray(image) for image in cascade.decode(semantic, [""] * len(pixels), list(seeds))]
    return np.stack(out)


def quality(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> Quality:
    """What is left of held-out pictures."""
    rates = judged(found, [scene_of(i, held_out=True) for i in range(len(found))], "dense")
    return {PSNR: psnr(found, wanted), WHOLE: rates.pop("all right"), "Read by the judge, by attribute": rates}


def train(
    steps: int,
    vqgan_steps: int,
    batch: int,
    seed: int,
    work: Path,
    out: Path,
    *,
    count: int = PICTURES,
    judged_on: int = HELD_OUT,
) -> None:
    """All parts, Stage A first; where it is finished, it stays."""
    if not (out / "vqgan" / EVALUATION).exists():
        train_vqgan(vqgan_steps, VQGAN_BATCH, seed, work, out / "vqgan", count=count, judged_on=judged_on)
    train_parts(steps, batch, seed, work, out, count=count, judged_on=judged_on)


if __name__ == "__main__":
    more = {"vqgan_steps": (6_000, "steps of Stage A")}
    given = arguments(__doc__, steps=2_500, batch=64, out="wuerstchen", more=more)
    train(given.steps, given.vqgan_steps, given.batch, given.seed, given.work, given.out)
