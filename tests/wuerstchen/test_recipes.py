"""Stages C and B as recipes: they learn, they are pure, they sample, and their folders load again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMWuerstchenScheduler
from pydantic import ValidationError
from safetensors.torch import load_file

from curation.config.wuerstchen import StageBSettings, StageCSettings
from curation.distill.losses import add_noise
from curation.errors import ConfigError
from curation.train.draws import Draws
from curation.train.loop import total_loss
from curation.train.recipe import Recipe
from curation.wuerstchen.cascade import denoised, load_wuerstchen
from curation.wuerstchen.schedule import alpha_bar
from curation.wuerstchen.stage_b import StageB
from curation.wuerstchen.stage_c import StageC
from tests.wuerstchen.conftest import CAPTIONS, SIDE

DRAWS = Draws(0, 0, 0)
PROMPTS, SEEDS = ["a red star", "a blue circle"], [5, 6]


def learnt(recipe: Recipe, batch: dict[str, Any], steps: int, lr: float) -> list[float]:
    """Losses of steps on one batch with the same noise."""
    optimizer = torch.optim.AdamW([p for p in recipe.model.parameters() if p.requires_grad], lr=lr)
    recipe.model.train()
    found = []
    for _ in range(steps):
        with torch.no_grad():
            prepared = recipe.prepare(batch, DRAWS)
        losses = recipe.losses(recipe.model, prepared)
        assert all(value.shape == (len(CAPTIONS),) and value.dtype == torch.float32 for value in losses.values())
        total = total_loss(losses, recipe.weights, recipe.sample_weights(prepared))
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(total.item())
    return found


def as_array(images: list[Any]) -> Any:
    return np.stack([np.asarray(image) for image in images])


def test_stage_c_overfits_a_batch(stage_c: StageCSettings, batch: dict[str, Any]) -> None:
    losses = learnt(StageC(stage_c, seed=0), batch, 40, 1e-2)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("train_compressor", [False, True])
def test_stage_b_overfits_a_batch(train_compressor: bool, stage_b: StageBSettings, batch: dict[str, Any]) -> None:
    recipe = StageB(stage_b.model_copy(update={"train_compressor": train_compressor}), seed=0)
    before = {name: value.clone() for name, value in recipe.compressor.state_dict().items()}
    losses = learnt(recipe, batch, 40, 1e-2)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.5 * losses[0]
    moved = any(not value.equal(before[name]) for name, value in recipe.compressor.state_dict().items())
    assert moved is train_compressor


def test_what_stage_c_is_shown(stage_c: StageCSettings, batch: dict[str, Any]) -> None:
    recipe = StageC(stage_c, seed=0)
    prepared = recipe.prepare(batch, DRAWS)
    clean = recipe.compressor.normalised(recipe.compressor(batch["pixels"]))
    assert prepared.noisy.shape == (4, 6, 4, 4)
    assert prepared.times.min() > 0
    torch.testing.assert_close(prepared.noisy, add_noise(clean, prepared.noise, alpha_bar(prepared.times)))
    assert recipe.sample_weights(prepared).tolist() == pytest.approx((1 - alpha_bar(prepared.times)).tolist())
    torch.testing.assert_close(prepared.text, recipe.text(CAPTIONS))
    cached = {"semantic": recipe.compressor(batch["pixels"]), "captions": CAPTIONS}
    again = recipe.prepare(cached, DRAWS)
    assert again.noisy.equal(prepared.noisy), "no pixels are needed"
    none = StageC(stage_c.model_copy(update={"caption_dropout": 1.0}), seed=0).prepare(batch, DRAWS)
    torch.testing.assert_close(none.text, recipe.text([""] * 4))


def test_a_share_of_a_batch_is_the_same_on_any_number_of_ranks(stage_b: StageBSettings, batch: dict[str, Any]) -> None:
    recipe = StageB(stage_b, seed=0)
    whole = recipe.prepare(batch, Draws(0, 3, 0))
    half = recipe.prepare({name: value[2:] for name, value in batch.items()}, Draws(0, 3, 2))
    torch.testing.assert_close(half.noisy, whole.noisy[2:])
    assert half.blur.equal(whole.blur[2:])
    assert half.shown.equal(whole.shown[2:])
    torch.testing.assert_close(half.text, whole.text[2:])


def test_what_stage_b_is_shown(stage_b: StageBSettings, batch: dict[str, Any]) -> None:
    recipe = StageB(stage_b, seed=0)
    many = {"pixels": batch["pixels"][:1].expand(400, -1, -1, -1), "captions": CAPTIONS[:1] * 400}
    prepared = recipe.prepare(many, DRAWS)
    assert (~prepared.shown).double().mean() == pytest.approx(0.05, abs=0.03)
    blurred = prepared.blur < 1
    assert blurred.double().mean() == pytest.approx(0.3, abs=0.07)
    assert prepared.blur.min() >= alpha_bar(torch.tensor(0.5))
    seen: list[torch.Tensor] = []
    recipe.model.decoder.register_forward_hook(lambda module, given, found: seen.append(given[2]))
    with torch.no_grad():
        recipe.losses(recipe.model, prepared)
    plain = prepared.shown & ~blurred
    torch.testing.assert_close(seen[0][plain], prepared.given[plain])
    assert seen[0][~prepared.shown].eq(0).all()
    assert not torch.allclose(seen[0][prepared.shown & blurred], prepared.given[prepared.shown & blurred], atol=1e-3)


def test_stage_c_saves_all_three_stages(stage_c: StageCSettings, batch: dict[str, Any], tmp_path: Path) -> None:
    recipe = StageC(stage_c, seed=0)
    learnt(recipe, batch, 3, 1e-2)
    recipe.save(tmp_path / "model")
    loaded = load_wuerstchen(tmp_path / "model")
    images = as_array(recipe.sample(PROMPTS, SEEDS))
    assert images.shape == (2, SIDE, SIDE, 3)
    assert recipe.model.training, "sampling leaves the model as it was"
    np.testing.assert_array_equal(as_array(loaded.sample(PROMPTS, SEEDS)), images)
    assert abs(as_array(loaded.sample(PROMPTS[1:], SEEDS[1:])).astype(int) - images[1:]).max() <= 1, "alone or not"
    assert (as_array(loaded.sample(PROMPTS, [7, 8])) != images).any()
    for name in ("prior", "decoder", "vqgan", "compressor", "prior_text", "decoder_text"):
        assert list((tmp_path / "model" / name).glob("*.safetensors")), name
    assert not list((tmp_path / "model").rglob("*.bin"))
    configs = [path.read_text() for path in (tmp_path / "model").rglob("config.json")]
    assert not any("_name_or_path" in text for text in configs), "nor does it tell where its parts came from"


def test_the_layers_that_are_read_are_kept(stage_c: StageCSettings, tmp_path: Path) -> None:
    """SDXL's second encoder was trained through its penultimate layer."""
    text = stage_c.text.model_copy(update={"layer": "penultimate"})
    recipe = StageC(stage_c.model_copy(update={"text": text}), seed=0)
    plain = StageC(stage_c, seed=0)
    assert recipe.signature()["text"] != plain.signature()["text"]
    states = recipe.text(CAPTIONS)
    assert states.shape == plain.text(CAPTIONS).shape
    assert not torch.allclose(states, plain.text(CAPTIONS), atol=1e-2)
    both = stage_c.text.model_copy(update={"beside": text})
    recipe = StageC(stage_c.model_copy(update={"text": both}), seed=0)
    assert recipe.signature()["text"]["beside"]["text"]["layer"] == "penultimate"
    assert recipe.text.parameters == 2 * plain.text.parameters
    together = recipe.text(CAPTIONS)
    torch.testing.assert_close(together, torch.cat([plain.text(CAPTIONS), states], 2))
    recipe.save(tmp_path)
    loaded = load_wuerstchen(tmp_path)
    assert loaded.prior_text is not None
    torch.testing.assert_close(loaded.prior_text(CAPTIONS), together)


def test_points_of_time_are_where_the_noise_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler leaves a tensor where it finds it; on a GPU the next step would not find it."""
    given: list[torch.Tensor] = []
    plain = DDPMWuerstchenScheduler.set_timesteps

    def noted(self: Any, *, timesteps: torch.Tensor, device: torch.device) -> None:
        given.append(timesteps)
        plain(self, timesteps=timesteps, device=device)

    monkeypatch.setattr(DDPMWuerstchenScheduler, "set_timesteps", noted)
    same = lambda self, noise, times, found, generator: SimpleNamespace(prev_sample=found)  # noqa: E731
    monkeypatch.setattr(DDPMWuerstchenScheduler, "step", same)
    device = torch.device("meta")
    found = denoised(lambda noisy, times: noisy, (1, 2, 2), torch.linspace(1, 0, 3), [torch.Generator()], device)
    assert found.device == given[0].device == device


def test_stage_b_saves_what_stage_c_takes(
    stage_b: StageBSettings, stage_c: StageCSettings, batch: dict[str, Any], tmp_path: Path
) -> None:
    recipe = StageB(stage_b, seed=0)
    learnt(recipe, batch, 3, 1e-2)
    recipe.save(tmp_path)
    loaded = load_wuerstchen(tmp_path)
    np.testing.assert_array_equal(as_array(loaded.sample(PROMPTS, SEEDS)), as_array(recipe.sample(PROMPTS, SEEDS)))
    semantic = loaded.compressor(batch["pixels"])
    made = as_array(loaded.decode(semantic, CAPTIONS, [1, 2, 3, 4]))
    assert made.shape == (4, SIDE, SIDE, 3)
    assert (made != as_array(loaded.decode(-semantic, CAPTIONS, [1, 2, 3, 4]))).any()
    decode = {"decoder": {"model": str(tmp_path), "subfolder": "decoder"}, "vqgan": str(tmp_path / "vqgan")}
    text = {"model": str(tmp_path), "subfolder": "decoder_text"}
    compressor = {"model": str(tmp_path), "subfolder": "compressor"}
    given = stage_c.model_dump() | {"decode": decode | {"text": text}, "compressor": compressor}
    assert len(StageC(StageCSettings.model_validate(given), 0).sample(PROMPTS[:1], [0])) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision(
    dtype: torch.dtype, stage_b: StageBSettings, stage_c: StageCSettings, batch: dict[str, Any]
) -> None:
    learns = stage_b.model_copy(update={"train_compressor": True})
    for recipe in (StageC(stage_c, seed=0), StageB(stage_b, seed=0), StageB(learns, seed=0)):
        recipe.to(torch.device("cpu"), dtype)
        prepared = recipe.prepare(batch, DRAWS)
        with torch.autocast("cpu", dtype):
            losses = recipe.losses(recipe.model, prepared)
        assert losses["noise"].dtype == torch.float32
        losses["noise"].mean().backward()
        assert all(p.dtype == torch.float32 and p.grad is not None for p in recipe.model.parameters())
        assert len(recipe.sample(PROMPTS, SEEDS)) == 2


def test_what_bf16_rounded_is_saved_as_it_was_loaded(
    stage_b: StageBSettings, stage_c: StageCSettings, tmp_path: Path
) -> None:
    for name, whole, half in (
        ("c", StageC(stage_c, seed=0), StageC(stage_c, seed=0)),
        ("b", StageB(stage_b, seed=0), StageB(stage_b, seed=0)),
    ):
        half.to(torch.device("cpu"), torch.bfloat16)
        whole.save(tmp_path / name / "whole")
        half.save(tmp_path / name / "half")
        files = sorted(path.relative_to(tmp_path / name / "whole") for path in tmp_path.glob(f"{name}/whole/*/*.saf*"))
        assert len(files) >= 3
        for file in files:
            saved, wanted = (load_file(tmp_path / name / of / file) for of in ("half", "whole"))
            assert all(torch.equal(saved[key], wanted[key]) for key in wanted), file


def test_guidance_counts(stage_c: StageCSettings) -> None:
    recipe = StageC(stage_c, seed=0)
    torch.nn.init.normal_(recipe.model.out[1].weight, std=0.5)
    guided = as_array(recipe.sample(PROMPTS, SEEDS))
    settings = stage_c.sampling.model_copy(update={"prior_guidance": 1.0})
    recipe.cascade.sampling = settings
    assert (as_array(recipe.sample(PROMPTS, SEEDS)) != guided).any()


def test_going_on_from_trained_weights(stage_c: StageCSettings, batch: dict[str, Any], tmp_path: Path) -> None:
    first = StageC(stage_c, seed=0)
    learnt(first, batch, 2, 1e-2)
    first.save(tmp_path)
    given = stage_c.model_dump() | {"prior": {"weights": str(tmp_path / "prior")}}
    second = StageC(StageCSettings.model_validate(given), seed=1)
    assert all(value.equal(first.model.state_dict()[name]) for name, value in second.model.state_dict().items())
    assert all(p.requires_grad for p in second.model.parameters())


def test_signatures_follow_the_files(stage_c: StageCSettings, stage_b: StageBSettings) -> None:
    c, b = StageC(stage_c, 0).signature(), StageB(stage_b, 0).signature()
    json.dumps([c, b])
    assert c["compressor"] == b["compressor"]
    assert "model.safetensors" in c["text"]
    assert StageC(stage_c, 0).facts()["parameters"] < 100_000


def test_parts_that_do_not_fit_are_refused(stage_c: StageCSettings, parts: dict[str, Any], tmp_path: Path) -> None:
    def refused(path: str, **changes: Any) -> str:
        settings = StageCSettings.model_validate(stage_c.model_dump() | changes)
        with pytest.raises(ConfigError) as error:
            StageC(settings, 0)
        assert error.value.path == path
        return error.value.problem

    decode = {"decoder": parts["decoder"], "vqgan": parts["vqgan"]}
    assert "no text encoder" in refused("recipe", decode=decode)
    assert "multiples of 8" in refused("recipe.sampling.size", sampling={"size": [32, 36]})
    assert "no folder" in refused("recipe.text.model", text=str(tmp_path / "gone"))
    assert "PaellaVQModel" in refused("recipe.decode.vqgan.model", decode=decode | {"vqgan": str(tmp_path)})
    swapped = decode | {"vqgan": parts["decoder"]}
    assert "is a WuerstchenDiffNeXt, not a PaellaVQModel" in refused("recipe.decode.vqgan.model", decode=swapped)


def test_pictures_that_cannot_be_halved_are_refused(stage_b: StageBSettings) -> None:
    with pytest.raises(ConfigError, match=r"data\.resolution: pictures of 28 × 32 pixels; .* multiples of 8"):
        StageB(stage_b, 0).check_sizes([(32, 32), (32, 28)])


def test_settings_that_contradict_each_other_are_refused(stage_b: StageBSettings) -> None:
    with pytest.raises(ValidationError, match="`text` is missing"):
        StageBSettings.model_validate(stage_b.model_dump() | {"text": None})
    with pytest.raises(ValidationError, match="cannot be shared out to 3 heads"):
        StageCSettings.model_validate({"kind": "wuerstchen_c", "prior": {"width": 16, "heads": 3}})


def test_a_folder_that_is_no_wuerstchen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no Würstchen"):
        load_wuerstchen(tmp_path)
    index = {"models": ["decoder", "os.system"], "texts": {}, "sampling": {}}
    (tmp_path / "wuerstchen.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"names decoder, os\.system"):
        load_wuerstchen(tmp_path)
