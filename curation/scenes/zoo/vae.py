"""Trains the teacher's VAE: 64 x 64 pixels to an 8 x 8 latent of 16 channels and back (`AutoencoderKL`, f8).

    python -m curation.scenes.zoo.vae [--steps N]

The loss is L1 over pixels and over their differences to neighbours, which keeps textures, with a light KL term. After
training, `scaling_factor` is set so that latents have unit variance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from curation.scenes.zoo.pictures import as_input, indices, pictures
from curation.scenes.zoo.training import Training, arguments, device, in_bf16

PICTURES = 60_000
KL = 1e-6
LR = 1e-3


def make_vae() -> AutoencoderKL:
    """The untrained VAE."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=64,
    )


def reconstruction_loss(pixels: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the pixels, and of the steps to the pixel on the right and below; [B, 3, H, W] in [-1, 1]."""
    loss = (pixels - wanted).abs().mean()
    for dim in (-1, -2):
        loss = loss + (pixels.diff(dim=dim) - wanted.diff(dim=dim)).abs().mean()
    return loss


def train(steps: int, batch: int, seed: int, work: Path, out: Path) -> None:
    torch.manual_seed(seed)
    vae = make_vae().to(device())
    print(f"{sum(p.numel() for p in vae.parameters()):,} parameters")
    images, held_out = pictures(work, PICTURES), pictures(work, 256, held_out=True)

    def loss(step: int) -> Tensor:
        wanted = as_input(images[np.sort(indices(step, batch, PICTURES, seed))]).to(device())
        generator = torch.Generator(device()).manual_seed(step)
        with in_bf16():
            posterior = vae.encode(wanted).latent_dist
            found = vae.decode(posterior.sample(generator)).sample
        total: Tensor = reconstruction_loss(found.float(), wanted) + KL * posterior.kl().mean()
        return total

    def report(step: int) -> list[tuple[str, float]]:
        with torch.no_grad():
            wanted = as_input(held_out).to(device())
            found = vae.decode(vae.encode(wanted).latent_dist.mode()).sample.clamp(-1, 1)
        return [("psnr", round(float(-10 * torch.log10(((found - wanted) / 2).square().mean())), 2))]

    training = Training("vae", vae, work, steps=steps, lr=LR)
    training.run(loss, report)
    training.finish()
    with torch.no_grad():
        latents = vae.encode(as_input(images[:2048]).to(device())).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    vae.half().save_pretrained(out)


if __name__ == "__main__":
    given = arguments(__doc__, steps=6_000, batch=32, out="teacher/vae")
    train(given.steps, given.batch, given.seed, given.work, given.out)
