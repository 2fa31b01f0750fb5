"""Trains the teacher: an SDXL-shaped text-to-image model of the studio, saved as a `StableDiffusionXLPipeline` folder.

    python -m curation.scenes.zoo.teacher [--steps N]       after tokenizer and vae

As SDXL it has two text encoders (their penultimate layers side by side, the second one's projection pooled), a U-Net of
three levels of which the upper one has no attention, and conditioning on original size, crop and target size. Text
encoders and U-Net learn together, from nothing. The model predicts v (Salimans & Ho 2022, §4) on SDXL's noise schedule.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from curation.models import forget_places
from curation.scenes.describe import dense, medium, short
from curation.scenes.dice import Dice
from curation.scenes.judge import Mentioned
from curation.scenes.studio import SIDE, studio_scene
from curation.scenes.zoo.cards import Made, Quality, write_card
from curation.scenes.zoo.judged import judged
from curation.scenes.zoo.pictures import as_input, indices, pictures, scene_of
from curation.scenes.zoo.tokenizer import make_tokenizer
from curation.scenes.zoo.training import Training, arguments, device, in_bf16
from curation.scenes.zoo.vae import CHANNELS

PICTURES = 60_000
LR = 1e-3
MAX_TOKENS = 40
"""The studio's dense captions have at most 36; attention over 77 would take a third more time."""
BATCH, STEPS, GUIDANCE = 50, 20, 3.0
"""How it is sampled when it is measured."""
WHOLE, WORST = "scenes all right, dense held-out prompts", "the worst attribute's share, dense held-out prompts"
ABOUT = f"""A `StableDiffusionXLPipeline` that paints scenes of the studio (`curation/scenes/studio.py`) from their
descriptions at {SIDE} × {SIDE} pixels: SDXL's two text encoders, three-level U-Net and size conditioning in small. It
predicts v, and is sampled with {STEPS} ancestral Euler steps at guidance {GUIDANCE:g}. Small original sizes ask for
soft pictures. It was to have half of the scenes all right and 0.85 of each attribute, and falls short by its textures:
a period is 1.2 cells of the latents, and the phase is in no caption (`docs/embedded_world.md`)."""
REDUCED = (24, 12)
"""Some pictures are shown scaled down to these sides and up again, with that as their original size."""
REDUCED_SHARE = 0.1
FINE_FROM = 3_500
"""The step from which on most timesteps are drawn where textures are decided. By then all else is learnt; a texture's
phase is no caption's to say, so its kind can be learnt only where noise shows the one and hides the other."""
FINE, FINE_SHARE = (400, 900), 0.75
"""These timesteps: signal to noise from 0.7 to 0.014, where two textures of an object are 250 apart, squared."""
CAPTIONS = {"dense": 0.75, "medium": 0.1, "short": 0.05, "empty": 0.1}


def make_text_encoders(vocabulary: int) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Untrained: three layers each, widths 64 and 96."""
    both = {
        "vocab_size": vocabulary,
        "num_hidden_layers": 3,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    first = CLIPTextConfig(hidden_size=64, intermediate_size=256, projection_dim=64, num_attention_heads=2, **both)
    second = CLIPTextConfig(
        hidden_size=96,
        intermediate_size=384,
        projection_dim=96,
        num_attention_heads=3,
        hidden_act="gelu",
        **both,
    )
    return CLIPTextModel(first), CLIPTextModelWithProjection(second)


def make_unet() -> UNet2DConditionModel:
    """Untrained, SDXL's shape in small: attention of depth 1 and 3 on the two lower levels."""
    return UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 128),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 3),
        attention_head_dim=(1, 2, 4),
        cross_attention_dim=64 + 96,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96 + 6 * 32,
        norm_num_groups=16,
    )


class Parts(nn.Module):
    """What learns together."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = make_text_encoders(len(tokenizer))
        self.unet = make_unet()

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor, sizes: Tensor) -> Tensor:
        """v of noisy `latents` [B, 12, 12, 12] at `timesteps` [B], for `tokens` [B, T] and time ids `sizes` [B, 6]."""
        first = self.text_encoder(tokens, output_hidden_states=True)
        second = self.text_encoder_2(tokens, output_hidden_states=True)
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        added = {"text_embeds": second.text_embeds, "time_ids": sizes}
        v: Tensor = self.unet(latents, timesteps, encoder_hidden_states=text, added_cond_kwargs=added).sample
        return v


def scheduler() -> EulerAncestralDiscreteScheduler:
    """SDXL's noise schedule, predicting v, sampled from its noisiest end with new noise at each step: a texture's phase
    is nobody's to say, and without new noise the model paints the mean of all phases, which is none."""
    return EulerAncestralDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def caption(index: int, seed: object) -> str:
    """A caption for training picture `index`: mostly dense, sometimes shorter, sometimes none at all."""
    dice = Dice("caption", index, seed)
    kind = dice.weighted(CAPTIONS)
    if kind == "empty":
        return ""
    scene = scene_of(index)
    return dense(scene, seed) if kind == "dense" else medium(scene) if kind == "medium" else short(scene)


def draw_timesteps(step: int, count: int, timesteps: int, generator: torch.Generator) -> Tensor:
    """int64 [count] of all `timesteps`, from `FINE_FROM` on mostly `FINE` ones."""
    found = torch.randint(0, timesteps, (count,), generator=generator)
    if step < FINE_FROM:
        return found
    fine = torch.randint(*FINE, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < FINE_SHARE, fine, found)


def reduced(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """uint8 [B, SIDE, SIDE, 3] scaled down to `side` and up again."""
    out = []
    for image in images:
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
        out.append(np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return np.stack(out)


def encoded(vae: AutoencoderKL, work: Path) -> Tensor:
    """float16 [1 + len(REDUCED), PICTURES, 12, 12, 12]: scaled latents of the pictures, whole and reduced."""
    path = work / "latents.pt"
    if not path.exists():
        images = pictures(work, PICTURES)
        latents = torch.empty(1 + len(REDUCED), PICTURES, CHANNELS, SIDE // 4, SIDE // 4, dtype=torch.float16)
        for i, side in enumerate((SIDE, *REDUCED)):
            for start in range(0, PICTURES, 500):
                batch = np.asarray(images[start : start + 500])
                batch = batch if side == SIDE else reduced(batch, side)
                with torch.no_grad(), in_bf16():
                    found = vae.encode(as_input(batch).to(device())).latent_dist.mode()
                latents[i, start : start + 500] = (found.float() * vae.config.scaling_factor).half().cpu()
        torch.save(latents, path)
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def train(steps: int, batch: int, seed: int, work: Path, out: Path) -> None:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = MAX_TOKENS
    vae = AutoencoderKL.from_pretrained(out / "vae", torch_dtype=torch.float32).to(device()).eval()
    parts = Parts(tokenizer).to(device())
    for name, part in parts.named_children():
        print(f"{name}: {sum(p.numel() for p in part.parameters()):,} parameters")
    latents = encoded(vae, work)
    alpha_bar = scheduler().alphas_cumprod.to(device())

    def loss(step: int) -> Tensor:
        dice = np.random.default_rng((seed, step, 1))
        which = indices(step, batch, PICTURES, seed)
        sides = np.where(dice.random(batch) < REDUCED_SHARE, dice.integers(1, 1 + len(REDUCED), batch), 0)
        clean = latents[torch.from_numpy(sides), torch.from_numpy(which)].float().to(device())
        texts = [caption(int(i), (step, n)) for n, i in enumerate(which)]
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids.to(device())
        original = torch.tensor((SIDE, *REDUCED), dtype=torch.float32)[torch.from_numpy(sides)]
        side = torch.full((batch,), float(SIDE))
        sizes = torch.stack([original, original, 0 * side, 0 * side, side, side], dim=1).to(device())
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        noise = torch.randn(clean.shape, generator=generator).to(device())
        timesteps = draw_timesteps(step, batch, len(alpha_bar), generator).to(device())
        a = alpha_bar[timesteps].sqrt()[:, None, None, None]
        b = (1 - alpha_bar[timesteps]).sqrt()[:, None, None, None]
        with in_bf16():
            v = parts(a * clean + b * noise, timesteps, tokens, sizes)
        return F.mse_loss(v.float(), a * noise - b * clean)

    training = Training("teacher", parts, work, steps=steps, lr=LR)

    def report(step: int) -> list[tuple[str, float]]:
        with training.with_average():
            return list(read_from(pipeline(parts, vae, tokenizer), 64, "dense").items())

    training.run(loss, report)
    training.finish()
    for part in (parts.text_encoder, parts.text_encoder_2, parts.unet, vae):
        part.cpu().half()
    pipeline(parts, vae, tokenizer).save_pretrained(out)
    forget_places(out)
    made = Made(
        title="Teacher of the embedded world",
        about=ABOUT,
        command=f"python -m curation.scenes.zoo.teacher --steps {steps} --batch {batch} --seed {seed}",
        seed=seed,
        steps=steps,
        batch=batch,
        seconds=training.seconds,
        parameters=sum(p.numel() for p in parts.parameters()),
        bars={WHOLE: 0.5, WORST: 0.85},
    )
    write_card(out, made, evaluate(out))


def pipeline(parts: Parts, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
    """The trained parts as a pipeline."""
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=parts.text_encoder,
        text_encoder_2=parts.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=parts.unet,
        scheduler=scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def read_from(made: StableDiffusionXLPipeline, count: int, mentioned: Mentioned) -> dict[str, float]:
    """What the judge reads from pictures for held-out prompts: shares right by attribute, and of scenes all right."""
    scenes = [studio_scene(("teacher", i), held_out=True) for i in range(count)]
    say = {"dense": lambda i, s: dense(s, i), "medium": lambda i, s: medium(s), "short": lambda i, s: short(s)}
    prompts = [say[mentioned](i, scene) for i, scene in enumerate(scenes)]
    made.set_progress_bar_config(disable=True)
    images: list[NDArray[np.uint8]] = []
    for start in range(0, count, BATCH):
        dice = [torch.Generator().manual_seed(seed) for seed in range(start, min(start + BATCH, count))]
        found = made(prompts[start : start + BATCH], num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=dice)
        images += [np.asarray(image) for image in found.images]
    return judged(images, scenes, mentioned)


def evaluate(folder: Path, count: int = 400) -> Quality:
    """The saved pipeline on held-out prompts of each kind."""
    made = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    rates = read_from(made, count, "dense")
    whole = rates.pop("all right")
    quality: dict[str, float | dict[str, float]] = {
        WHOLE: whole,
        WORST: min(rates.values()),
        "Dense prompts, by attribute": rates,
    }
    for kind in ("medium", "short"):
        quality[f"{kind.capitalize()} prompts, by attribute that they mention"] = read_from(made, count // 4, kind)
    return quality


if __name__ == "__main__":
    given = arguments(__doc__, steps=5_500, batch=64, out="teacher")
    train(given.steps, given.batch, given.seed, given.work, given.out)
