"""The semantic compressor: sizes, formats, the authors' weights, and what it refuses."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from curation.config.wuerstchen import CompressorSettings
from curation.errors import ConfigError, CorruptionError
from curation.wuerstchen.compressor import SemanticCompressor, load_compressor, semantic_of
from curation.wuerstchen.efficientnet import STAGES, Stage


def pixels(height: int, width: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture
def tiny_efficientnet(monkeypatch: pytest.MonkeyPatch) -> str:
    """EfficientNet-V2's blocks and strides, few and narrow."""
    stages = (Stage(1, 1, 8, 8, 2, True), Stage(4, 2, 8, 8, 1, True), Stage(4, 2, 8, 8, 1, True))
    stages += (Stage(4, 2, 8, 8, 2, False), Stage(6, 2, 8, 8, 1, False))
    monkeypatch.setitem(STAGES, "efficientnet_v2_s", stages)
    return "efficientnet_v2_s"


@pytest.mark.parametrize(("strides", "side"), [((2, 2, 3), 4), ((2, 2, 2), 6)])
def test_the_small_one(strides: tuple[int, ...], side: int) -> None:
    compressor = SemanticCompressor(widths=(8, 16, 16), strides=strides).eval()
    found = compressor(pixels(48, 48))
    assert found.shape == (2, 16, side, side)
    assert found.dtype == torch.float32
    assert compressor.latent_size(48, 48) == (side, side)
    assert compressor(pixels(40, 52)).shape[2:] == compressor.latent_size(40, 52)


def test_an_efficientnets_latents_stand_for_42_pixels(tiny_efficientnet: str) -> None:
    compressor = SemanticCompressor(trunk=tiny_efficientnet).eval()
    assert compressor.latent_size(1024, 1024) == (24, 24)
    assert compressor.latent_size(512, 512) == (12, 12)
    for height, width in ((128, 128), (104, 152)):
        assert compressor(pixels(height, width)).shape == (2, 16, *compressor.latent_size(height, width))


def test_batch_norm_makes_unit_variance_and_scale_is_undone() -> None:
    compressor = SemanticCompressor(widths=(8,), strides=(4,), scale=42.0, shift=1.0).train()
    found = compressor(pixels(32, 32, 8))
    assert found.mean((0, 2, 3)).abs().max() < 1e-4
    assert found.var((0, 2, 3), correction=0).tolist() == pytest.approx([1] * 16, abs=0.02)
    assert compressor.normalised(torch.tensor(41.0)) == 1
    torch.testing.assert_close(compressor.restored(compressor.normalised(found)), found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_in_the_authors_names(suffix: str, tiny_efficientnet: str, tmp_path: Path) -> None:
    made = SemanticCompressor(trunk=tiny_efficientnet, affine=suffix == ".pt").eval()
    state = {name: value.contiguous() for name, value in made.state_dict().items()}
    file = tmp_path / f"effnet{suffix}"
    if suffix == ".pt":
        torch.save({"effnet_state_dict": state, "iter": 3}, file)
    else:
        save_file(state, file)
    found = load_compressor("recipe.compressor", CompressorSettings(model=str(tmp_path), file=file.name, scale=42.0))
    assert torch.equal(found(pixels(64, 64)), made(pixels(64, 64)))
    assert found.config.scale == 42
    assert not any(p.requires_grad for p in found.parameters())


def test_the_trunk_of_a_classifier_of_imagenet(tiny_efficientnet: str, tmp_path: Path) -> None:
    trunk = SemanticCompressor(trunk=tiny_efficientnet).backbone.state_dict()
    weights = {f"features.{name}": value.contiguous() for name, value in trunk.items()}
    save_file(weights | {"classifier.1.weight": torch.zeros(10, 1280)}, tmp_path / "net.safetensors")
    given = CompressorSettings(model=str(tmp_path), file="net.safetensors")
    found = load_compressor("recipe.compressor", given, seed=3)
    assert all(value.equal(trunk[name]) for name, value in found.backbone.state_dict().items())
    torch.manual_seed(99)  # what else was drawn before says nothing
    again, other = (load_compressor("recipe.compressor", given, seed).mapper[0].weight for seed in (3, 4))
    assert torch.equal(again, found.mapper[0].weight)
    assert not torch.equal(other, again)


@pytest.mark.parametrize("given", [{"scale": 42}, {"shift": 1}, {"backbone": "efficientnet_v2_l"}])
def test_what_only_files_need_is_refused_of_a_folder(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="goes with `file`"):
        CompressorSettings.model_validate({"model": "folder", **given})
    whole = CompressorSettings.model_validate({"model": "folder", "file": "f.safetensors", **given})
    assert CompressorSettings.model_validate(whole.model_dump()) == whole


def test_what_is_missing_is_named(tiny_efficientnet: str, tmp_path: Path) -> None:
    save_file({"backbone.0.0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "damaged.pt").write_bytes(b"PK")
    for settings, path in (
        (CompressorSettings(model=str(tmp_path / "gone")), "recipe.compressor.model"),
        (CompressorSettings(model=str(tmp_path)), "recipe.compressor.model"),
        (CompressorSettings(model=str(tmp_path), file="gone.safetensors"), "recipe.compressor.file"),
        (CompressorSettings(model=str(tmp_path), file="other.safetensors"), "recipe.compressor.file"),
        (CompressorSettings(model=str(tmp_path), file="damaged.pt"), "recipe.compressor.file"),
    ):
        with pytest.raises(ConfigError) as error:
            load_compressor("recipe.compressor", settings)
        assert error.value.path == path


def test_other_contents_than_tensors_are_refused(tiny_efficientnet: str, tmp_path: Path) -> None:
    """A checkpoint of one's own may hold a date or a configuration, which nothing here unpickles."""
    for name, contents in {"object.pt": {"made": datetime(2026, 1, 1), "state_dict": {}}, "list.pt": [1, 2]}.items():
        torch.save(contents, tmp_path / name)
        with pytest.raises(ConfigError, match=r"x\.file: .*(cannot be read|holds no tensors)"):
            load_compressor("x", CompressorSettings(model=str(tmp_path), file=name))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pictures_are_scaled_in_full_precision(dtype: torch.dtype, tiny_efficientnet: str) -> None:
    torch.manual_seed(0)
    compressor = SemanticCompressor(trunk=tiny_efficientnet).eval()
    wanted = compressor(pixels(128, 128))
    found = compressor.to(dtype)(pixels(128, 128))
    assert found.dtype == torch.float32
    assert (found - wanted).abs().mean() < 0.05 * wanted.abs().mean()


def test_cached_latents_come_before_pixels() -> None:
    compressor = SemanticCompressor(widths=(8,), strides=(4,), channels=6).eval()
    cached = torch.full((2, 6, 8, 8), 0.5, dtype=torch.float16)
    found = semantic_of({"semantic": cached}, compressor)
    assert found.dtype == torch.float32
    assert found.eq(0.5).all()
    torch.testing.assert_close(semantic_of({"pixels": pixels(32, 32)}, compressor), compressor(pixels(32, 32)))
    with pytest.raises(CorruptionError, match=r"\[2, 4, 8, 8\]; the compressor has 6 channels"):
        semantic_of({"semantic": cached[:, :4]}, compressor)
