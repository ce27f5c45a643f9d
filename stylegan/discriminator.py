"""The StyleGAN2 discriminator: picture (and condition) -> logit."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from stylegan.config import Config
from stylegan.errors import ConfigError, ShapeError
from stylegan.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    block_size,
    default_channels,
    resolutions,
)
from stylegan.ops import downsample2d, setup_filter
from stylegan.stylegan2 import ARCHITECTURES


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(Config):
    """The sizes a StyleGAN2 discriminator is built from."""

    what: ClassVar[str] = "discriminator"

    img_resolution: int
    img_channels: int = 3
    c_dim: int = 0
    channels: dict[int, int] = field(default_factory=dict)  # resolution -> width; {} is config F
    base: tuple[int, int] = (4, 4)  # height and width at the last block
    architecture: str = "resnet"
    conv_clamp: float | None = None
    mapping_layers: int = 8  # of the condition's mapping network
    cmap_dim: int | None = None  # width of the mapped condition; None is the width at 4 px
    mbstd_group_size: int = 4  # pictures compared with each other; 0 leaves the statistic out
    mbstd_num_channels: int = 1
    resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def __post_init__(self) -> None:
        """Fill in the default widths and check the rest."""
        if self.architecture not in ARCHITECTURES:
            raise ConfigError(
                f"unknown architecture '{self.architecture}'; "
                f"choose from {', '.join(ARCHITECTURES)}"
            )
        given = self.channels or default_channels(self.img_resolution)
        object.__setattr__(self, "channels", {int(r): int(n) for r, n in given.items()})
        object.__setattr__(self, "base", (int(self.base[0]), int(self.base[1])))
        object.__setattr__(self, "resample_filter", tuple(map(float, self.resample_filter)))

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width of the pictures; `img_resolution` where `base` is 4 x 4."""
        return block_size(self.base, self.img_resolution)


def minibatch_stddev(x: Tensor, group_size: int, num_channels: int = 1) -> Tensor:
    """Append the spread among pictures of a group as channels (Progressive GAN, section 3).

    Args:
        x: [N, C, H, W]; N must be divisible by min(group_size, N).
        group_size: Pictures per group; picture i falls into group i mod (N / group_size).
        num_channels: Statistics appended, each over C / num_channels channels.

    Returns:
        [N, C + num_channels, H, W].

    Raises:
        ShapeError: The batch is not a multiple of the group.
    """
    n, c, h, w = x.shape
    group = min(group_size, n)
    if n % group:
        raise ShapeError(f"a batch of {n} cannot be split into groups of {group}")
    y = x.reshape(group, n // group, num_channels, c // num_channels, h, w)
    std = (y.var(dim=0, unbiased=False) + 1e-8).sqrt()  # [N / G, F, C / F, H, W]
    stat = std.mean(dim=(2, 3, 4))  # [N / G, F]
    planes = stat[:, :, None, None].repeat(group, 1, h, w)
    return torch.cat([x, planes], dim=1)


class DiscriminatorBlock(nn.Module):
    """One resolution: (from-RGB,) two convolutions, the second halving the size."""

    resample_filter: Tensor

    def __init__(self, resolution: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.architecture = config.architecture
        width, out = config.channels[resolution], config.channels[resolution // 2]
        clamp, taps = config.conv_clamp, config.resample_filter
        self.register_buffer("resample_filter", setup_filter(taps))
        self.reads_image = resolution == config.img_resolution or config.architecture == "skip"
        if self.reads_image:
            self.fromrgb = Conv2dLayer(
                config.img_channels,
                width,
                1,
                activation="lrelu",
                conv_clamp=clamp,
                resample_filter=taps,
            )
        self.conv0 = Conv2dLayer(
            width, width, 3, activation="lrelu", conv_clamp=clamp, resample_filter=taps
        )
        self.conv1 = Conv2dLayer(
            width, out, 3, activation="lrelu", down=2, conv_clamp=clamp, resample_filter=taps
        )
        if config.architecture == "resnet":
            self.skip = Conv2dLayer(width, out, 1, bias=False, down=2, resample_filter=taps)

    def forward(self, x: Tensor | None, img: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Take features and picture of this size, return those of half the size."""
        if self.reads_image and img is not None:
            y = self.fromrgb(img)
            x = y if x is None else x + y
            shrink = self.architecture == "skip"
            img = downsample2d(img, self.resample_filter) if shrink else None
        if self.architecture == "resnet":
            y = self.skip(x, gain=math.sqrt(0.5))
            return y + self.conv1(self.conv0(x), gain=math.sqrt(0.5)), img
        return self.conv1(self.conv0(x)), img


class DiscriminatorEpilogue(nn.Module):
    """Features of the last block, 4 px, -> logit, or its projection on the mapped condition."""

    def __init__(self, config: DiscriminatorConfig, cmap_dim: int) -> None:
        super().__init__()
        width = config.channels[4]
        self.cmap_dim = cmap_dim
        self.group_size, self.num_channels = config.mbstd_group_size, config.mbstd_num_channels
        if config.architecture == "skip":
            self.fromrgb = Conv2dLayer(config.img_channels, width, 1, activation="lrelu")
        extra = config.mbstd_num_channels if config.mbstd_group_size > 0 else 0
        self.conv = Conv2dLayer(
            width + extra,
            width,
            3,
            activation="lrelu",
            conv_clamp=config.conv_clamp,
            resample_filter=config.resample_filter,
        )
        self.fc = FullyConnectedLayer(width * math.prod(config.base), width, activation="lrelu")
        self.out = FullyConnectedLayer(width, cmap_dim or 1)

    def forward(self, x: Tensor, img: Tensor | None, cmap: Tensor | None) -> Tensor:
        """Return logits [N, 1]."""
        if img is not None:
            x = x + self.fromrgb(img)
        if self.group_size > 0:
            x = minibatch_stddev(x, self.group_size, self.num_channels)
        x = self.conv(x)
        x = self.out(self.fc(x.contiguous().flatten(1)))
        if cmap is not None:
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x


class Discriminator(nn.Module):
    """img [N, C, H, W] (and c [N, c_dim]) -> logits [N, 1]; higher is more real."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.img_resolution, self.c_dim = config.img_resolution, config.c_dim
        self.block_resolutions = resolutions(config.img_resolution)[:0:-1]
        for res in self.block_resolutions:
            setattr(self, f"b{res}", DiscriminatorBlock(res, config))
        cmap_dim = 0
        if config.c_dim > 0:
            cmap_dim = config.channels[4] if config.cmap_dim is None else config.cmap_dim
            self.mapping = MappingNetwork(
                0, config.c_dim, cmap_dim, None, num_layers=config.mapping_layers
            )
        self.b4 = DiscriminatorEpilogue(config, cmap_dim)

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """Judge pictures.

        Args:
            img: [N, img_channels, H, W] in [-1, 1].
            c: [N, c_dim] condition; None when `c_dim` is 0.

        Returns:
            Logits [N, 1].

        Raises:
            ShapeError: The pictures are of another size, or the condition is missing.
        """
        height, width = self.config.img_size
        if img.ndim != 4 or img.shape[2:] != (height, width):
            raise ShapeError(f"expected pictures of {height}x{width}, got {list(img.shape)}")
        x: Tensor | None = None
        rest: Tensor | None = img.contiguous(memory_format=torch.channels_last)
        for res in self.block_resolutions:
            x, rest = getattr(self, f"b{res}")(x, rest)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return self.b4(x, rest, cmap)
