"""KOALA's recipe: what it prepares from a batch, its losses, its teachers of other kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from curation.config.koala import KoalaSettings, SamplingSettings
from curation.distill.koala import Koala
from curation.distill.sampling import sample
from curation.errors import ConfigError, CorruptionError
from curation.sdxl import load_part
from curation.train.draws import Draws
from tests.tiny_sdxl import CHANNELS, POOLED, SIDE, TEXT, TOKENS, tiny_sdxl

DRAWS = Draws(seed=0, step=0, first=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("teacher"))


def koala(folder: Path, teacher: dict[str, Any] | None = None, **given: Any) -> Koala:
    settings = {
        "kind": "koala",
        "teacher": {"model": str(folder), **(teacher or {})},
        "student": {"transformer_layers": [1, 1, 1], "mid_block": False},
        **given,
    }
    recipe = Koala(KoalaSettings.model_validate(settings), seed=0)
    recipe.to(torch.device("cpu"), torch.float32)
    return recipe


def batch(count: int = 3) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, SIDE, SIDE), np.uint8)
    return {
        "pixels": torch.from_numpy(pixels),
        "captions": [f"a star {i}" for i in range(count)],
        "original_sizes": torch.tensor([[100, 90]] * count),
        "crop_top_lefts": torch.tensor([[3, 4]] * count),
        "target_sizes": torch.tensor([[SIDE, SIDE]] * count),
    }


def prepared(recipe: Koala, given: dict[str, Any] | None = None, draws: Draws = DRAWS) -> Any:
    with torch.no_grad():
        return recipe.prepare(given or batch(), draws)


def test_a_batch_is_noised_at_the_teachers_noise_levels(folder: Path) -> None:
    recipe = koala(folder)
    found = prepared(recipe)
    latents = recipe.teacher.encode_pixels(batch()["pixels"])
    assert latents.shape == (3, CHANNELS, SIDE // 4, SIDE // 4)
    # the noise is the target, as ε is predicted; diffusers' own scheduler makes the same of both
    schedule = DDPMScheduler.from_config(recipe.teacher.pipeline.scheduler.config)
    assert torch.allclose(found.noisy, schedule.add_noise(latents, found.target, found.timesteps), atol=1e-6)
    assert found.text.shape == (3, TOKENS, TEXT)
    assert found.added["text_embeds"].shape == (3, POOLED)
    assert found.added["time_ids"].tolist() == [[100, 90, 3, 4, SIDE, SIDE]] * 3


def test_a_share_of_a_batch_is_prepared_as_in_the_whole_one(folder: Path) -> None:
    recipe, given = koala(folder, caption_dropout=0.5), batch()
    whole = prepared(recipe, given)
    share = {name: part[1:] for name, part in given.items()}
    part = prepared(recipe, share, Draws(seed=0, step=0, first=1))
    assert torch.equal(part.noisy, whole.noisy[1:])
    assert torch.equal(part.timesteps, whole.timesteps[1:])
    assert torch.allclose(part.text, whole.text[1:], atol=1e-6)
    assert not torch.equal(prepared(recipe, given, Draws(seed=0, step=1, first=0)).noisy, whole.noisy)


def test_dropped_captions_are_as_the_pipeline_has_no_prompt(folder: Path) -> None:
    recipe = koala(folder, caption_dropout=1.0)
    text, pooled = recipe.teacher.encode_texts([""])
    found = prepared(recipe)
    assert torch.equal(found.text, text.expand(3, -1, -1))
    assert torch.equal(found.added["text_embeds"], pooled.expand(3, -1))
    recipe.teacher.pipeline.register_to_config(force_zeros_for_empty_prompt=True)  # as SDXL-Base has it
    recipe.to(torch.device("cpu"), torch.float32)
    assert not prepared(recipe).text.any()
    empty = {**batch(), "captions": ["", "a star", ""]}  # as the stream's kind `empty` gives
    kept = koala(folder)
    kept.teacher.pipeline.register_to_config(force_zeros_for_empty_prompt=True)
    assert prepared(kept, empty).text.flatten(1).any(dim=1).tolist() == [False, True, False]


def test_losses_are_those_of_the_definitions(folder: Path) -> None:
    recipe = koala(folder)
    given = prepared(recipe)
    with torch.no_grad():
        losses = recipe.losses(recipe.model, given)
        found = recipe.model(given.noisy, given.timesteps, given.text, added_cond_kwargs=given.added).sample
        taught = recipe.teacher.unet(given.noisy, given.timesteps, given.text, added_cond_kwargs=given.added).sample
    assert torch.allclose(losses["task"], (found - given.target).square().flatten(1).mean(1))
    assert torch.allclose(losses["output"], (found - taught).square().flatten(1).mean(1))
    assert losses["features.self_attention"].shape == (3,)
    assert losses["features.self_attention"].min() > 0


def test_what_has_no_weight_is_not_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = koala(folder, losses={"output": 0, "features": 0})
    monkeypatch.setattr(recipe.teacher.unet, "forward", lambda *a, **k: pytest.fail("the teacher was asked"))
    assert set(recipe.losses(recipe.model, prepared(recipe))) == {"task"}


def test_each_kind_of_feature_is_a_loss_of_its_own(folder: Path) -> None:
    recipe = koala(folder, losses={"features": 0.5, "places": {"self_attention": 1, "last": 4, "last_outer": 0.1}})
    assert recipe.weights == {
        "task": 1,
        "output": 1,
        "features.self_attention": 0.5,
        "features.last": 2,
        "features.last_outer": pytest.approx(0.05),
    }
    losses = recipe.losses(recipe.model, prepared(recipe))
    assert set(losses) == set(recipe.weights)
    alone = koala(folder, losses={"places": ["last_outer"]})
    of_alone = alone.losses(alone.model, prepared(alone))
    torch.testing.assert_close(losses["features.last_outer"], of_alone["features.last_outer"])
    assert (losses["features.last"] > losses["features.last_outer"]).all(), "the outer blocks are among all"


def test_a_student_of_other_widths_begins_from_nothing(folder: Path) -> None:
    teacher = koala(folder).teacher.unet.config
    widths = [2 * width for width in teacher.block_out_channels]
    recipe = koala(folder, student={"widths": widths, "inherit": False}, losses={"features": 0})
    assert list(recipe.model.config.block_out_channels) == widths
    heads = recipe.model.config.attention_head_dim
    assert [2 * number for number in teacher.attention_head_dim] == list(heads)
    losses = recipe.losses(recipe.model, prepared(recipe))
    assert set(losses) == {"task", "output"}
    assert recipe.facts()["inherited tensors"] == 0
    assert len(recipe.sample(["a star"], [3])) == 1
    with pytest.raises(ValidationError, match=r"goes with `student\.inherit: false`"):
        koala(folder, student={"widths": widths})
    with pytest.raises(ConfigError, match=r"recipe\.student\.widths: 33 is no multiple of"):
        koala(folder, student={"widths": [33, *widths[1:]], "inherit": False}, losses={"features": 0})


def test_a_whole_copy_of_the_teacher_has_nothing_to_learn_of_it(folder: Path) -> None:
    recipe = koala(folder, student={"layers_per_block": 2})
    losses = recipe.losses(recipe.model, prepared(recipe))
    assert losses["output"].max() < 1e-10
    assert losses["features.self_attention"].max() < 1e-10
    assert recipe.sample(["a star"], [3])[0].tobytes() == recipe.reference(["a star"], [3])[0].tobytes()


def test_a_constant_original_size_hides_the_samples_own(folder: Path) -> None:
    found = prepared(koala(folder, constant_size=[48, 48]))
    assert found.added["time_ids"].tolist() == [[48, 48, 3, 4, SIDE, SIDE]] * 3


def test_min_snr_weighs_samples(folder: Path) -> None:
    recipe = koala(folder, losses={"min_snr": 5.0})
    given = prepared(recipe)
    alpha_bar = recipe.teacher.alphas_cumprod[given.timesteps]
    snr = alpha_bar / (1 - alpha_bar)
    assert torch.allclose(recipe.sample_weights(given), snr.clamp(max=5) / snr)
    assert koala(folder).sample_weights(given) is None


def test_cached_latents_and_texts_take_the_place_of_pixels_and_captions(folder: Path) -> None:
    recipe, given = koala(folder), batch()
    with torch.no_grad():
        latents = recipe.teacher.pipeline.vae.encode(given["pixels"] / 127.5 - 1).latent_dist.mean
        text, pooled = recipe.teacher.encode_texts(given["captions"])
    cached = {name: part for name, part in given.items() if name not in ("pixels", "captions")}
    cached |= {"latents": latents.half(), "text": text.half(), "pooled": pooled.half(), "captions": given["captions"]}
    whole, part = prepared(recipe, given), prepared(recipe, cached)
    assert torch.allclose(part.noisy, whole.noisy, atol=2e-3)
    assert torch.allclose(part.text, whole.text, atol=2e-2)
    with pytest.raises(CorruptionError, match="latents have 3 channels, the teacher's 4"):
        prepared(recipe, {**cached, "latents": latents[:, :3]})


# -- teachers of other kinds -----------------------------------------------------------------------------------------


def test_a_teacher_that_knows_few_timesteps(folder: Path) -> None:
    recipe = koala(folder, {"timesteps": [249, 499, 749, 999], "sampling": {"steps": 4}})
    seen = {int(t) for step in range(20) for t in prepared(recipe, draws=Draws(0, step, 0)).timesteps}
    assert seen == {249, 499, 749, 999}
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.timesteps: 1000 is no timestep: there are 1000"):
        koala(folder, {"timesteps": [1000]})


def test_nobody_is_sampled_where_a_teacher_of_few_timesteps_knows_nothing(folder: Path) -> None:
    four = {"timesteps": [999, 749, 499, 249]}
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.sampling\.steps: 25 steps ask at .* leaves out"):
        koala(folder, four)
    right = {**four, "sampling": {"steps": 4, "guidance": 1}}
    with pytest.raises(ConfigError, match=r"recipe\.sampling\.steps: 5 steps ask at 799, which"):
        koala(folder, right, sampling={"steps": 5})
    koala(folder, right, sampling={"steps": 2})  # of the four


def test_a_vae_that_fp16_is_too_little_for_keeps_its_weights(folder: Path) -> None:
    teacher = koala(folder).teacher
    teacher.pipeline.vae.register_to_config(force_upcast=True)
    before = {name: value.clone() for name, value in teacher.pipeline.vae.state_dict().items()}
    teacher.to(torch.device("cpu"), torch.float16)
    assert teacher.unet.dtype == torch.float16
    assert all(torch.equal(value, before[name]) for name, value in teacher.pipeline.vae.state_dict().items())


def test_what_bf16_rounded_is_saved_as_it_was_loaded(folder: Path, tmp_path: Path) -> None:
    recipe = koala(folder)
    recipe.to(torch.device("cpu"), torch.bfloat16)
    recipe.save(tmp_path / "model")
    for part in ("vae", "text_encoder", "text_encoder_2"):
        saved, source = (load_part("model", part, str(at)).state_dict() for at in (tmp_path / "model", folder))
        assert all(torch.equal(saved[name].half(), source[name].half()) for name in source)


def test_a_teacher_that_predicts_v(tmp_path: Path) -> None:
    recipe = koala(tiny_sdxl(tmp_path, prediction="v_prediction"))
    found = prepared(recipe)
    noise = DRAWS.normal("noise", 3, tuple(found.noisy.shape[1:]))
    schedule = DDPMScheduler.from_config(recipe.teacher.pipeline.scheduler.config)
    clean = recipe.teacher.encode_pixels(batch()["pixels"])
    assert torch.allclose(found.target, schedule.get_velocity(clean, noise, found.timesteps), atol=1e-5)


def test_another_unets_file(folder: Path, tmp_path: Path) -> None:
    """As SDXL-Lightning comes: weights for the U-Net of the base model."""
    plain = koala(folder)
    state = {name: tensor + 0.01 for name, tensor in plain.teacher.unet.state_dict().items()}
    save_file(state, tmp_path / "unet.safetensors")
    other = koala(folder, {"unet": str(tmp_path / "unet.safetensors")})
    name = "conv_in.weight"
    assert torch.equal(other.teacher.unet.state_dict()[name], state[name])
    assert other.signature() != plain.signature()
    save_file({"x": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.unet: .*wrong\.safetensors does not fit"):
        koala(folder, {"unet": str(tmp_path / "wrong.safetensors")})
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.unet: no file"):
        koala(folder, {"unet": "nowhere.safetensors"})


def test_a_guided_teacher_teaches_its_guided_prediction(folder: Path) -> None:
    plain, guided = koala(folder), koala(folder, {"guidance": 1.0})
    # guidance of 1 is the conditional prediction itself
    assert torch.allclose(prepared(guided).taught, prepared(plain).taught, atol=1e-5)
    assert not torch.allclose(prepared(koala(folder, {"guidance": 3.0})).taught, prepared(plain).taught, atol=1e-3)


def test_a_teacher_that_does_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"student\.layers_per_block: 3 is over the teacher's 2"):
        koala(folder, student={"layers_per_block": 3})
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"recipe\.teacher\.model: .* is no pipeline of SDXL's kind: it has no"):
        koala(tmp_path)


# -- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_follow_from_prompt_and_seed(folder: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    sampling = SamplingSettings(steps=2, guidance=2.0)
    prompts, seeds = ["a star", "two stars", "a red circle"], [5, 6, 7]
    together = sample(pipeline, prompts, seeds, sampling)
    one_by_one = sample(pipeline, prompts, seeds, sampling, batch=1)
    for a, b in zip(together, one_by_one, strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    assert pipeline.scheduler.config.timestep_spacing == "trailing"


def test_draws_are_as_random_as_they_should_be() -> None:
    draws = Draws(seed=1, step=2, first=0)
    normal: Tensor = draws.normal("x", 500, (8,))
    assert abs(float(normal.mean())) < 0.05
    assert abs(float(normal.std()) - 1) < 0.05
    assert torch.equal(draws.integers("y", 6, 10)[2:], Draws(1, 2, 2).integers("y", 4, 10))
    assert 0.4 < float(draws.uniform("z", 500).mean()) < 0.6
    assert not torch.equal(draws.uniform("z", 5), draws.uniform("other", 5))
