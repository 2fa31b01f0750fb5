"""The trunk of EfficientNet-V2 (Tan & Le 2021, arXiv 2104.00298, Table 4), with torchvision's names, so that
Würstchen's published weights fit; `compressor.py` builds one where it is asked for.

`transformers` has the first EfficientNet alone, and torchvision would be a dependency for this one model, which has no
build beside CPU torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

WIDTH = 1280
"""Channels of the last layer."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one shape; the first one has the stride."""

    expand: int
    stride: int
    inside: int
    outside: int
    blocks: int
    fused: bool


V2_S = (
    Stage(1, 1, 24, 24, 2, True),
    Stage(4, 2, 24, 48, 4, True),
    Stage(4, 2, 48, 64, 4, True),
    Stage(4, 2, 64, 128, 6, False),
    Stage(6, 1, 128, 160, 9, False),
    Stage(6, 2, 160, 256, 15, False),
)
V2_L = (
    Stage(1, 1, 32, 32, 4, True),
    Stage(4, 2, 32, 64, 7, True),
    Stage(4, 2, 64, 96, 7, True),
    Stage(4, 2, 96, 192, 10, False),
    Stage(6, 1, 192, 224, 19, False),
    Stage(6, 2, 224, 384, 25, False),
    Stage(6, 1, 384, 640, 7, False),
)
STAGES = {"efficientnet_v2_s": V2_S, "efficientnet_v2_l": V2_L}


def make_trunk(name: str) -> nn.Sequential:
    """Untrained: float [B, 3, H, W], normalised as for ImageNet, to [B, 1280, H/32, W/32], sides rounded up."""
    stages = STAGES[name]
    layers: list[nn.Module] = [_convolution(3, stages[0].inside, 3, 2)]
    for stage in stages:
        blocks = [_Block(stage, first=i == 0) for i in range(stage.blocks)]
        layers.append(nn.Sequential(*blocks))
    layers.append(_convolution(stages[-1].outside, WIDTH, 1))
    return nn.Sequential(*layers)


class _Block(nn.Module):
    """MBConv, or with the depthwise convolution fused into the one before it."""

    def __init__(self, stage: Stage, first: bool) -> None:
        super().__init__()
        inside, stride = (stage.inside, stage.stride) if first else (stage.outside, 1)
        wide = inside * stage.expand
        if stage.fused and stage.expand == 1:
            layers = [_convolution(inside, stage.outside, 3, stride)]
        elif stage.fused:
            layers = [_convolution(inside, wide, 3, stride), _convolution(wide, stage.outside, 1, active=False)]
        else:
            layers = [
                _convolution(inside, wide, 1),
                _convolution(wide, wide, 3, stride, groups=wide),
                _Squeeze(wide, max(1, inside // 4)),
                _convolution(wide, stage.outside, 1, active=False),
            ]
        self.block = nn.Sequential(*layers)
        self._residual = stride == 1 and inside == stage.outside

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.block(x)
        return found + x if self._residual else found


class _Squeeze(nn.Module):
    """Squeeze and excitation (Hu et al. 2018)."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True))))
        return found.sigmoid() * x


def _convolution(
    inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside, eps=1e-3),
    ]
    return nn.Sequential(*layers, *([nn.SiLU()] if active else []))
