"""The semantic compressor: pictures to the few latents that Stage C makes of text, and that Stage B makes latents of.

The authors' is an EfficientNet-V2 behind whose last layer a 1 × 1 convolution and a batch norm leave 16 channels. It
looks at a picture at three quarters of its size, so a latent stands for 32 / 0.75 = 42.67 pixels a side: 24 × 24 at
1024 pixels. That is impossible at 48 pixels, where one or two a side would be left; the embedded world has a small
trunk of plain convolutions instead, by default of f12: 4 × 4 latents, 256 numbers where its VAE has 1,728.

Recipes use one frozen, the zoo trains the small one, and the cache of semantic latents is made with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file
from torch import Tensor, nn

from curation.config.wuerstchen import CompressorSettings
from curation.errors import ConfigError, CorruptionError
from curation.hub import fetch_file
from curation.models import is_local
from curation.text import one_line
from curation.train.recipe import TorchBatch
from curation.wuerstchen.efficientnet import WIDTH, make_trunk
from curation.wuerstchen.parts import load_part
from curation.wuerstchen.sizes import SHRINK, semantic_size, steps_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, as its EfficientNets were trained."""


class SemanticCompressor(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A model in diffusers' format. `trunk`: "small", of `widths` and `strides`, or an EfficientNet by its name."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        trunk: str = "small",
        channels: int = 16,
        widths: tuple[int, ...] = (32, 64, 128),
        strides: tuple[int, ...] = (2, 2, 3),
        affine: bool = False,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        super().__init__()
        small = trunk == "small"
        self.backbone = _small_trunk(widths, strides) if small else make_trunk(trunk)
        self.mapper = nn.Sequential(
            nn.Conv2d(widths[-1] if small else WIDTH, channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Semantic latents float32 [B, channels, h, w] of uint8 `pixels` [B, 3, H, W]; sides as `latent_size` says."""
        images = pixels.to(self.device).float() / 255  # scaled and normalised in full, as the authors do
        if self.config.trunk == "small":
            images = 2 * images - 1
        else:
            size = [round(SHRINK * side) for side in images.shape[-2:]]
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
            mean, std = images.new_tensor(MEAN).view(-1, 1, 1), images.new_tensor(STD).view(-1, 1, 1)
            images = (images - mean) / std
        latents: Tensor = self.mapper(self.backbone(images.to(self.dtype))).float()
        return latents

    def normalised(self, latents: Tensor) -> Tensor:
        """Latents as `forward` gives them → as Stage C makes them, of about unit variance."""
        return (latents + float(self.config.shift)) / float(self.config.scale)

    def restored(self, latents: Tensor) -> Tensor:
        """The way back from `normalised`: what Stage B sees."""
        return latents * float(self.config.scale) - float(self.config.shift)

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the latents of a picture of these sides, pixels."""
        return semantic_size(height, width, *steps_of(self.config))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.layers(x)
        return found


def _small_trunk(widths: tuple[int, ...], strides: tuple[int, ...]) -> nn.Sequential:
    """A strided convolution and a residual layer for each of `widths`."""
    layers: list[nn.Module] = []
    inside = 3
    for width, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(inside, width, 3, stride, 1), _Residual(width)]
        inside = width
    return nn.Sequential(*layers, nn.GroupNorm(8, inside), nn.SiLU())


def load_compressor(setting: str, settings: CompressorSettings, seed: int = 0) -> SemanticCompressor:
    """The compressor of `settings`, on the CPU in float32, in eval mode and frozen. Raises ConfigError.

    A file of torchvision's classifier gives the trunk alone; what is behind it has first weights, by `seed`.
    """
    if settings.file is None:
        compressor: SemanticCompressor = load_part(setting, settings, SemanticCompressor)
        return compressor
    weights = _read_weights(setting, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        compressor = SemanticCompressor(
            trunk=settings.backbone,
            affine="mapper.0.weight" not in weights or "mapper.1.weight" in weights,
            scale=settings.scale,
            shift=settings.shift,
        )
    prefix = "features."
    trunk = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        if trunk:
            compressor.backbone.load_state_dict(trunk)
        else:
            compressor.load_state_dict(weights)
    except RuntimeError as error:
        reason = one_line(error, 300)
        raise ConfigError(f"{setting}.file", f"{settings.file} is no {settings.backbone}: {reason}") from None
    return compressor.requires_grad_(False).eval()  # type: ignore[no-any-return]


def semantic_of(batch: TorchBatch, compressor: SemanticCompressor) -> Tensor:
    """Semantic latents float32 [B, C, h, w] on the compressor's device, as it gives them: those of the corpus's cache
    (`batch["semantic"]`) where it has any, else of its pixels. Raises CorruptionError where the cache does not fit."""
    if "semantic" not in batch:
        return compressor(batch["pixels"])  # type: ignore[no-any-return]
    cached: Tensor = batch["semantic"]
    channels = compressor.config.channels
    if cached.dim() != 4 or cached.shape[1] != channels:
        shape = list(cached.shape)
        raise CorruptionError(f"the corpus's semantic latents are {shape}; the compressor has {channels} channels")
    return cached.to(compressor.device).float()


def _read_weights(setting: str, settings: CompressorSettings) -> dict[str, Tensor]:
    """The tensors of `settings.file` by name; nothing in it can run code."""
    assert settings.file is not None
    if is_local(settings.model):
        path = Path(settings.model).expanduser() / (settings.subfolder or "") / settings.file
    else:
        name = f"{settings.subfolder}/{settings.file}" if settings.subfolder else settings.file
        path = fetch_file(f"{setting}.file", settings.model, name, settings.revision)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # other contents than tensors make both formats raise many kinds
        reason = one_line(error, 300)
        raise ConfigError(f"{setting}.file", f"{path} cannot be read: {reason}") from None
    for name in ("effnet_state_dict", "state_dict"):
        found = found.get(name, found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{setting}.file", f"{path} holds no tensors by name")
    return found
