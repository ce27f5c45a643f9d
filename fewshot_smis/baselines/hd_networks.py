"""The networks of pix2pixHD: global generator, local enhancer, discriminators, feature encoder.

Names inside the networks are those of the public checkpoints.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_smis.baselines.config import check_at_least, check_choice
from fewshot_smis.baselines.layers import NORMS, check_planes, norm_layer
from fewshot_smis.baselines.patchgan import patch_groups
from stylegan.config import Config

WIDEST = 512
"""The most channels of a discriminator."""


@dataclass(frozen=True, kw_only=True)
class HDConfig(Config):
    """The sizes of a generator of pix2pixHD."""

    in_channels: int  # classes, an edge plane if there is one, features if there are any
    out_channels: int = 3
    width: int = 64  # channels of the outermost layer of the global generator
    halvings: int = 4  # of the global generator
    blocks: int = 9  # residual blocks of the global generator
    enhancers: int = 0  # each doubles the size of the picture, and halves the width
    local_blocks: int = 3  # residual blocks of an enhancer
    norm: str = "instance"  # "batch", "instance" or "none"

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("norm", self.norm, NORMS)
        sizes = {"in_channels": self.in_channels, "out_channels": self.out_channels}
        check_at_least(1, **sizes, width=self.width, halvings=self.halvings)
        check_at_least(0, blocks=self.blocks, enhancers=self.enhancers)
        check_at_least(0, local_blocks=self.local_blocks)

    @property
    def stride(self) -> int:
        """What the sides of the pictures must be multiples of."""
        return 2 ** (self.halvings + self.enhancers)


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            norm_layer(norm, channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            norm_layer(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return [N,C,H,W] for `x` [N,C,H,W]."""
        return x + self.conv_block(x)


def opening(in_channels: int, out_channels: int, norm: str) -> list[nn.Module]:
    """Return the first layers: a 7x7 convolution on mirrored borders."""
    conv = nn.Conv2d(in_channels, out_channels, 7)
    return [nn.ReflectionPad2d(3), conv, norm_layer(norm, out_channels), nn.ReLU()]


def halving(channels: int, norm: str) -> list[nn.Module]:
    """Return the layers that halve the picture and double its channels."""
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
    return [conv, norm_layer(norm, 2 * channels), nn.ReLU()]


def doubling(channels: int, norm: str) -> list[nn.Module]:
    """Return the layers that double the picture and halve its channels."""
    conv = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
    return [conv, norm_layer(norm, channels // 2), nn.ReLU()]


def closing(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return the last layers: a 7x7 convolution on mirrored borders, and tanh."""
    return [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, out_channels, 7), nn.Tanh()]


def global_layers(config: HDConfig, width: int) -> list[nn.Module]:
    """Return the global generator without its last layers, `width` channels outermost."""
    inner = width << config.halvings
    layers = opening(config.in_channels, width, config.norm)
    for i in range(config.halvings):
        layers += halving(width << i, config.norm)
    layers += [ResidualBlock(inner, config.norm) for _ in range(config.blocks)]
    for i in range(config.halvings):
        layers += doubling(inner >> i, config.norm)
    return layers


class HDGenerator(nn.Module):
    """The coarse-to-fine generator of section 3.1: G1 alone, or with enhancers around it."""

    def __init__(self, config: HDConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width << config.enhancers  # of G1, which the outermost enhancer halves
        layers = global_layers(config, width)
        if config.enhancers == 0:
            layers += closing(width, config.out_channels)
        self.model = nn.Sequential(*layers)
        for n in range(1, config.enhancers + 1):
            width //= 2
            down = opening(config.in_channels, width, config.norm) + halving(width, config.norm)
            up: list[nn.Module] = [
                ResidualBlock(2 * width, config.norm) for _ in range(config.local_blocks)
            ]
            up += doubling(2 * width, config.norm)
            if n == config.enhancers:
                up += closing(width, config.out_channels)
            self.add_module(f"model{n}_1", nn.Sequential(*down))
            self.add_module(f"model{n}_2", nn.Sequential(*up))

    def forward(self, planes: Tensor) -> Tensor:
        """Return pictures [N,3,H,W] in [-1,1] for `planes` [N,I,H,W].

        Raises:
            ShapeError: `planes` has other channels, or sides that are not multiples of
                `config.stride`, twice that at least.
        """
        config = self.config
        check_planes(planes, config.in_channels, config.stride, 2 * config.stride, "pix2pixHD")
        sizes = pyramid(planes, config.enhancers + 1)
        x = self.model(sizes.pop())
        for n in range(1, config.enhancers + 1):
            fine = self.get_submodule(f"model{n}_1")(sizes.pop())
            x = self.get_submodule(f"model{n}_2")(fine + x)
        return x


def pyramid(x: Tensor, scales: int) -> list[Tensor]:
    """Return `x` [N,C,H,W] and what is left when it is halved again and again, full size first."""
    sizes = [x]
    for _ in range(scales - 1):
        sizes.append(F.avg_pool2d(sizes[-1], 3, stride=2, padding=1, count_include_pad=False))
    return sizes


class MultiscaleDiscriminator(nn.Module):
    """The same PatchGAN at several scales (section 3.2); the highest index has the full size."""

    def __init__(
        self,
        in_channels: int,
        *,
        scales: int = 3,
        halvings: int = 3,
        width: int = 64,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        check_at_least(1, in_channels=in_channels, scales=scales, halvings=halvings, width=width)
        self.in_channels, self.scales, self.groups = in_channels, scales, halvings + 2
        for scale in range(scales):
            groups = patch_groups(
                in_channels, width, halvings, widest=WIDEST, padding=2, norm=norm, bias=True
            )
            for i, layers in enumerate(groups):
                self.add_module(f"scale{scale}_layer{i}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Return each scale's maps of `x` [N,C,H,W], full size first; scores [N,1,h,w] are last.

        Raises:
            ShapeError: `x` has other channels, or is too small for so many scales.
        """
        least = 2 << self.scales - 1
        check_planes(x, self.in_channels, 1, least, "discriminator of pix2pixHD")
        out = []
        for i, y in enumerate(pyramid(x, self.scales)):
            maps = []
            for j in range(self.groups):
                y = self.get_submodule(f"scale{self.scales - 1 - i}_layer{j}")(y)
                maps.append(y)
            out.append(maps)
        return out


class FeatureEncoder(nn.Module):
    """From a picture to low-dimensional features of its pixels (section 3.4).

    `instance_average` makes them one for each region.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        features: int = 3,
        width: int = 16,
        halvings: int = 4,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        check_at_least(1, features=features, width=width, halvings=halvings)
        self.in_channels, self.stride = in_channels, 2**halvings
        layers = opening(in_channels, width, norm)
        for i in range(halvings):
            layers += halving(width << i, norm)
        for i in range(halvings, 0, -1):
            layers += doubling(width << i, norm)
        self.model = nn.Sequential(*layers, *closing(width, features))

    def forward(self, img: Tensor) -> Tensor:
        """Return features [N,C,H,W] in [-1,1] of `img` [N,3,H,W] in [-1,1].

        Raises:
            ShapeError: Sides that are not multiples of the stride, twice that at least.
        """
        name = "feature encoder"
        check_planes(img, self.in_channels, self.stride, 2 * self.stride, name)
        return self.model(img)
