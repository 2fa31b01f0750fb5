"""Distillation: how long does a step take, in how much memory, and what does the student save when it samples?

    python -m benchmarks.distill [--steps 20] [--rounds 3]

On a GPU with SDXL's real architecture (random weights) at 1024 pixels in bf16, KOALA-700M and -1B as students; without
one with the embedded world's small models, and it says so. Our step runs `curation.distill.koala` as the loop does, on
latents and embeddings from the cache, and on pixels. The peer is a training script as diffusers' examples write it:
everything is encoded in each step, hooks collect features, the optimiser is torch's default. Each contestant runs in a
process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel

from benchmarks.measure import Case, report
from benchmarks.sdxl import REAL, SMALL, Size, make_pipeline
from curation.config.koala import KoalaSettings, SamplingSettings, TeacherSettings
from curation.config.train import OptimizerSettings
from curation.distill.inherit import inherit_map
from curation.distill.koala import Koala
from curation.distill.sampling import sample
from curation.distill.student import student_config
from curation.distill.taps import pair_places
from curation.distill.teacher import Teacher, frozen_copy
from curation.train.draws import Draws
from curation.train.loop import total_loss
from curation.train.metrics import peak_memory
from curation.train.optimizer import make_optimizer

Step = Callable[[int], None]
WARM = 3
"""Steps that are not timed."""


def pixels(size: Size) -> dict[str, Any]:
    """A batch as the stream gives it."""
    count, side = size.batch, size.side
    sizes = torch.tensor([[side, side]] * count)
    return {
        "pixels": torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8),
        "captions": ["a picture of a large striped red star in the centre on a plain cream background"] * count,
        "original_sizes": sizes,
        "crop_top_lefts": torch.zeros_like(sizes),
        "target_sizes": sizes,
    }


def ours(size: Size, student: str, device: torch.device, dtype: torch.dtype, cached: bool) -> Step:
    """A step of the loop."""
    teacher = Teacher(TeacherSettings(model="random"), make_pipeline(size, device, dtype))
    settings = {"kind": "koala", "teacher": {"model": "random"}, "student": size.students[student]}
    recipe = Koala(KoalaSettings.model_validate(settings), seed=0, teacher=teacher)
    recipe.to(device, dtype)
    batch = pixels(size)
    if cached:
        with torch.no_grad():
            text, pooled = teacher.encode_texts(batch["captions"])
            latents = teacher.encode_pixels(batch["pixels"]) / teacher.pipeline.vae.config.scaling_factor
        batch = {name: part for name, part in batch.items() if name != "pixels"}
        batch |= {"latents": latents.half().cpu(), "text": text.half().cpu(), "pooled": pooled.half().cpu()}
    recipe.model.to(device).train()
    if device.type == "cuda":
        recipe.model.enable_gradient_checkpointing()
    optimizer = make_optimizer(recipe.model.parameters(), OptimizerSettings())

    def step(number: int) -> None:
        with torch.no_grad():
            prepared = recipe.prepare(batch, Draws(0, number, 0))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            losses = recipe.losses(recipe.model, prepared)
        total_loss(losses, recipe.weights).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(recipe.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def as_scripts_do(size: Size, student: str, device: torch.device, dtype: torch.dtype) -> Step:
    """A step as diffusers' example scripts write it, with features by hooks."""
    made = make_pipeline(size, device, dtype)
    model = UNet2DConditionModel.from_config(student_config(made.unet.config, size.students[student])).to(device)
    weights = made.unet.state_dict()
    inheritance = inherit_map(model.state_dict(), weights)
    model.load_state_dict({name: weights[source].float() for name, source in inheritance.sources.items()})
    for part in (made.unet, made.vae, made.text_encoder, made.text_encoder_2):
        part.requires_grad_(False)
    if device.type == "cuda":
        model.enable_gradient_checkpointing()
    places = pair_places(model, inheritance, ["self_attention"])
    mine: dict[str, torch.Tensor] = {}
    theirs: dict[str, torch.Tensor] = {}
    for place, source in places.items():
        model.get_submodule(place).register_forward_hook(lambda m, i, o, p=place: mine.__setitem__(p, o))
        made.unet.get_submodule(source).register_forward_hook(lambda m, i, o, p=place: theirs.__setitem__(p, o))
    schedule = DDPMScheduler.from_config(made.scheduler.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch = pixels(size)

    def step(number: int) -> None:
        images = batch["pixels"].to(device, dtype) / 127.5 - 1
        latents = made.vae.encode(images).latent_dist.sample() * made.vae.config.scaling_factor
        text, _, pooled, _ = made.encode_prompt(batch["captions"], device=device, do_classifier_free_guidance=False)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (size.batch,), device=device)
        noisy = schedule.add_noise(latents, noise, timesteps)
        sizes = torch.cat([batch[n] for n in ("original_sizes", "crop_top_lefts", "target_sizes")], 1)
        added = {"text_embeds": pooled, "time_ids": sizes.to(device, dtype)}
        with torch.no_grad():
            taught = made.unet(noisy, timesteps, text, added_cond_kwargs=added).sample
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            found = model(noisy, timesteps, text, added_cond_kwargs=added).sample
            loss = F.mse_loss(found.float(), noise.float()) + F.mse_loss(found.float(), taught.float())
            for place in places:
                loss = loss + F.mse_loss(mine[place].float(), theirs[place].float())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def samples(size: Size, student: str, steps: int, device: torch.device, dtype: torch.dtype) -> Step:
    """One picture in `steps` steps with guidance; by the teacher where `student` is empty."""
    teacher = Teacher(TeacherSettings(model="random"), make_pipeline(size, device, dtype))
    if student:
        small = UNet2DConditionModel.from_config(student_config(teacher.unet.config, size.students[student]))
        teacher.pipeline.unet = frozen_copy(small.to(device), dtype)
        del teacher.unet
    teacher.pipeline.set_progress_bar_config(disable=True)
    sampling = SamplingSettings(steps=steps, guidance=3.5)

    def step(number: int) -> None:
        sample(teacher.pipeline, ["a red star"], [number], sampling)

    return step


def child(size: Size, what: str, steps: int) -> None:
    """Run a contestant; its seconds a step and its bytes at most go to standard output as JSON."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    kind, student, number = (*what.split(":"), "", "")[:3]
    if kind == "samples":
        work = samples(size, student, int(number), device, dtype)
    elif kind == "scripts":
        work = as_scripts_do(size, student, device, dtype)
    else:
        work = ours(size, student, device, dtype, cached=kind == "cached")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for i in range(WARM + steps):
        started = time.monotonic()
        work(i)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - started)
    print(json.dumps({"seconds": statistics.median(seconds[WARM:]), "bytes": peak_memory()}))


def measured(what: str, steps: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.distill", "--child", what, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(names: list[str], steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Of each contestant, in turn, so that a slow spell of the machine falls on all alike."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(measured(name, steps))
    return {name: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for name, runs in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distill", description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = REAL if torch.cuda.is_available() else SMALL
    if given.child:
        child(size, given.child, given.steps)
        return
    cases = []
    for student in size.students:
        names = [f"{kind}:{student}" for kind in ("cached", "pixels", "scripts")]
        found = medians(names, given.steps, given.rounds)
        cached, plain, scripts = (found[name] for name in names)
        title = f"KOALA {student}, {size.batch} × {size.side} px, a step"
        cases += [
            Case(f"{title}, cached", "s", cached["seconds"], {"script": scripts["seconds"]}, goal="≤ 0.83 ×"),
            Case(
                f"{title}, pixels as in the script",
                "s",
                plain["seconds"],
                {"script": scripts["seconds"]},
                goal="≤ 0.83 ×",
            ),
            Case(
                f"{title}: samples", "/s", size.batch / cached["seconds"], {"script": size.batch / scripts["seconds"]}
            ),
            Case(
                f"{title}: peak memory", "GB", cached["bytes"] / 1e9, {"script": scripts["bytes"] / 1e9}, goal="< 1 ×"
            ),
        ]
    small = next(iter(size.students))
    counts = (50, 10, 4)
    drawn = medians([f"samples:{student}:{n}" for n in counts for student in ("", small)], 3, given.rounds)
    for n in counts:
        mine, whole = drawn[f"samples:{small}:{n}"], drawn[f"samples::{n}"]
        cases.append(Case(f"a picture in {n} steps, {small}", "s", mine["seconds"], {"teacher": whole["seconds"]}))
    mine, whole = drawn[f"samples:{small}:10"], drawn["samples::10"]
    memory = {"teacher": whole["bytes"] / 1e9}
    cases.append(Case("a picture: peak memory", "GB", mine["bytes"] / 1e9, memory, goal="< 8 GB"))
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here: small models on the CPU"
    report("distill", cases, [f"{size.name}; {where}."])


if __name__ == "__main__":
    main()
