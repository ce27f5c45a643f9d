"""Residual trunks with squeeze-and-excitation: IR-SE-50 and a light one for small priors.

A trunk is an input layer and a chain of blocks, three of which are tapped: c1, c2 and c3 at
1/4, 1/8 and 1/16 of the input's side. IR-SE-50 bears the names of public pSp checkpoints.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from stylegan.errors import ConfigError
from stylegan.layers import SameConv

SE_REDUCTION = 16
SE_HIDDEN = 4  # at least
GROUP_CHANNELS = 8  # channels a group of the light trunk's normalisation, at least


class Trunk(NamedTuple):
    """The parts of a trunk, to be set as attributes of the encoder that owns it."""

    input_layer: nn.Sequential
    body: nn.Sequential
    taps: tuple[int, int, int]  # blocks whose outputs are c1, c2, c3
    channels: tuple[int, int, int]  # channels of c1, c2, c3


class PointConv(nn.Conv2d):
    """1x1 convolution of every `step`-th pixel, in two steps.

    The gradient of oneDNN 3.12's strided one writes past its buffer at 8 to 16 channels.
    """

    def __init__(self, channels: int, out: int, step: int) -> None:
        super().__init__(channels, out, 1, bias=False)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Return [N,out,ceil(H/step),ceil(W/step)] for `x` [N,channels,H,W]."""
        return super().forward(x[..., :: self.step, :: self.step])


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // SE_REDUCTION, SE_HIDDEN)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` [N,C,H,W] with channels scaled by gates in (0, 1)."""
        gate = self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * gate.sigmoid()


class IRBlock(nn.Module):
    """Residual block of IR-SE-50; `stride` sits in the second convolution."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        if channels == out:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)  # keeps every stride-th pixel
        else:
            self.shortcut_layer = nn.Sequential(
                PointConv(channels, out, stride), nn.BatchNorm2d(out)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            SameConv(channels, out, bias=False),
            nn.PReLU(out),
            SameConv(out, out, bias=False) if stride == 1 else halving(out, out),
            nn.BatchNorm2d(out),
            SqueezeExcite(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return [N,out,ceil(H/stride),ceil(W/stride)] for `x` [N,channels,H,W]."""
        return self.shortcut_layer(x) + self.res_layer(x)


class LightBlock(nn.Module):
    """Residual block of the light trunk; it normalises each sample by itself.

    Group normalisation has no running statistics: batches of two train as well as larger ones,
    and an average of the weights needs nothing beside them.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv0 = SameConv(channels, out, bias=False) if stride == 1 else halving(channels, out)
        self.norm0 = group_norm(out)
        self.conv1 = SameConv(out, out, bias=False)
        self.norm1 = group_norm(out)
        self.gate = SqueezeExcite(out)
        same = channels == out and stride == 1
        self.skip = nn.Identity() if same else PointConv(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N,out,ceil(H/stride),ceil(W/stride)] for `x` [N,channels,H,W]."""
        y = F.leaky_relu(self.norm0(self.conv0(x)), 0.1)
        y = self.gate(self.norm1(self.conv1(y)))
        return F.leaky_relu(self.skip(x) + y, 0.1)


def halving(channels: int, out: int) -> nn.Conv2d:
    """Return a 3x3 convolution of every second pixel."""
    return nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return the normalisation of a light block: groups of eight channels, one if none fit."""
    return nn.GroupNorm(max(channels // GROUP_CHANNELS, 1), channels)


def ir_se50(in_channels: int, width: int = 64) -> Trunk:
    """Build IR-SE-50: 3, 4, 14, 3 blocks of `width` times 1, 2, 4, 8 channels, each stage halving.

    Public checkpoints have `width` 64. The stem keeps the input's size.
    """
    body = nn.Sequential(
        *(
            IRBlock(*shape)
            for shape in _blocks(width, [width, 2 * width, 4 * width, 8 * width], [3, 4, 14, 3])
        )
    )
    stem = nn.Sequential(
        SameConv(in_channels, width, bias=False),
        nn.BatchNorm2d(width),
        nn.PReLU(width),
    )
    return Trunk(stem, body, taps=(6, 20, 23), channels=(2 * width, 4 * width, 8 * width))


def light(in_channels: int, width: int = 32) -> Trunk:
    """Build the light trunk: two blocks each of `width` times 1, 2, 4 channels, each stage halving.

    The stem halves the input too, so that a CPU can train it; about 0.7 million parameters at
    `width` 32.
    """
    body = nn.Sequential(
        *(LightBlock(*shape) for shape in _blocks(width, [width, 2 * width, 4 * width], [2, 2, 2]))
    )
    stem = nn.Sequential(
        halving(in_channels, width),
        group_norm(width),
        nn.LeakyReLU(0.1),
    )
    return Trunk(stem, body, taps=(1, 3, 5), channels=(width, 2 * width, 4 * width))


TRUNKS = {"ir_se50": ir_se50, "light": light}


def build_trunk(name: str, in_channels: int, width: int) -> Trunk:
    """Build the trunk called `name` ("ir_se50" or "light"); ConfigError for any other name."""
    if name not in TRUNKS:
        raise ConfigError(f"trunk {name!r} is unknown; choose one of {', '.join(TRUNKS)}")
    return TRUNKS[name](in_channels, width)


def pyramid(
    x: Tensor, input_layer: nn.Module, body: nn.Sequential, taps: tuple[int, ...]
) -> list[Tensor]:
    """Return the outputs of the tapped blocks for `x` [N,in_channels,H,W], finest first."""
    x = input_layer(x)
    maps = []
    for i, block in enumerate(body):
        x = block(x)
        if i in taps:
            maps.append(x)
    return maps


def _blocks(channels: int, widths: list[int], repeats: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (channels in, channels out, stride) of each block; the first of a stage halves."""
    for out, number in zip(widths, repeats, strict=True):
        for i in range(number):
            yield channels, out, 2 if i == 0 else 1
            channels = out
