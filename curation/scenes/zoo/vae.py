"""Trains the teacher's VAE: 48 x 48 pixels to a 12 x 12 latent of 12 channels and back (`AutoencoderKL`, f4).

    python -m curation.scenes.zoo.vae [--steps N]

The loss is the squared error of pixels with a light KL term. A batch is small, for each picture has 144 places to learn
from. After training, `scaling_factor` is set so that latents have unit variance. What it costs a picture is measured
with the judge: what it reads from held-out pictures that went through the VAE.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from curation.scenes.studio import SIDE
from curation.scenes.zoo.cards import Made, Quality, write_card
from curation.scenes.zoo.judged import judged
from curation.scenes.zoo.pictures import as_input, indices, pictures, scene_of
from curation.scenes.zoo.training import Training, arguments, device, in_bf16

PICTURES = 60_000
HELD_OUT = 512
CHANNELS = 12
ERROR, KL = 10.0, 1e-6
"""Weights of the squared error and of the divergence from a normal distribution."""
LR = 2e-3
QUIET = -6.0
"""Log variance of an untrained posterior: from 0 on, it would take long to be heard through its own noise."""
PSNR, WHOLE = "PSNR, dB", "scenes all right, read by the judge"


def make_vae() -> AutoencoderKL:
    """The untrained VAE."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        vae.quant_conv.weight[CHANNELS:] = 0
        vae.quant_conv.bias[CHANNELS:] = QUIET
    return vae


def train(steps: int, batch: int, seed: int, work: Path, out: Path, *, count: int = PICTURES) -> None:
    """Train on `count` pictures, save, measure on held-out ones, and write the card."""
    torch.manual_seed(seed)
    vae = make_vae().to(device())
    images, held_out = pictures(work, count), pictures(work, HELD_OUT, held_out=True)

    def loss(step: int) -> Tensor:
        wanted = as_input(images[np.sort(indices(step, batch, count, seed))]).to(device())
        generator = torch.Generator(device()).manual_seed(step)
        with in_bf16():
            posterior = vae.encode(wanted).latent_dist
            found = vae.decode(posterior.sample(generator)).sample
        total: Tensor = ERROR * F.mse_loss(found.float(), wanted) + KL * posterior.kl().mean()
        return total

    def report(step: int) -> list[tuple[str, float]]:
        return [("psnr", round(psnr(through(vae, held_out[:128]), held_out[:128]), 2))]

    training = Training("vae", vae, work, steps=steps, lr=LR)
    training.run(loss, report)
    training.finish()
    with torch.no_grad():
        latents = vae.encode(as_input(images[:2048]).to(device())).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    vae.cpu().half().save_pretrained(out)
    made = Made(
        title="VAE of the embedded world's teacher",
        about=f"An `AutoencoderKL` for pictures of the studio (`curation/scenes/studio.py`): {SIDE} × {SIDE} pixels to "
        f"{SIDE // 4} × {SIDE // 4} latents of {CHANNELS} channels and back.",
        command=f"python -m curation.scenes.zoo.vae --steps {steps} --batch {batch} --seed {seed}",
        seed=seed,
        steps=steps,
        batch=batch,
        seconds=training.seconds,
        parameters=sum(p.numel() for p in vae.parameters()),
    )
    write_card(out, made, evaluate(out, held_out))


def through(vae: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [B, H, W, 3] encoded and decoded again."""
    with torch.no_grad():
        found = vae.decode(vae.encode(as_input(images).to(vae.device)).latent_dist.mode()).sample
    pixels: NDArray[np.uint8] = ((found.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def psnr(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio over all pictures, dB."""
    error = np.square(found.astype(np.float64) - wanted).mean()
    return float(10 * np.log10(255**2 / error))


def evaluate(folder: Path, held_out: NDArray[np.uint8]) -> Quality:
    """What is left of held-out pictures behind the saved VAE."""
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()
    found = np.concatenate([through(vae, held_out[i : i + 64]) for i in range(0, len(held_out), 64)])
    rates = judged(found, [scene_of(i, held_out=True) for i in range(len(found))], "dense")
    return {PSNR: psnr(found, held_out), WHOLE: rates.pop("all right"), "Read by the judge, by attribute": rates}


if __name__ == "__main__":
    given = arguments(__doc__, steps=10_000, batch=8, out="teacher/vae")
    train(given.steps, given.batch, given.seed, given.work, given.out)
