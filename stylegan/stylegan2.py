"""The StyleGAN2 generator (Karras et al. 2020): mapping z -> ws, synthesis ws -> picture.

Parameter names are those of NVIDIA's PyTorch code, so that its state dicts load as they are.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from stylegan.errors import ConfigError
from stylegan.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    block_size,
    default_channels,
    resolutions,
)
from stylegan.ops import modulated_conv2d, setup_filter, upsample2d
from stylegan.prior import Prior, PriorConfig, Rendering, Synthesis
from stylegan.seeding import Source, randn
from stylegan.steering import SteeredMapping

ARCHITECTURES = ("skip", "resnet", "orig")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(PriorConfig):
    """The sizes a StyleGAN2 generator is built from."""

    family: ClassVar[str] = "stylegan2"

    mapping_layers: int = 8
    channels: dict[int, int] = field(default_factory=dict)  # resolution -> width; {} is config F
    base: tuple[int, int] = (4, 4)  # height and width of the first block; each next doubles them
    architecture: str = "skip"  # "skip", "resnet" or "orig"
    conv_clamp: float | None = None  # bound on activations, for half precision
    resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    steered: int = 0  # attributes that z decides, each a direction of w: see `steering`

    def __post_init__(self) -> None:
        """Fill in the default widths and check the rest."""
        if self.architecture not in ARCHITECTURES:
            raise ConfigError(
                f"unknown architecture '{self.architecture}'; "
                f"choose from {', '.join(ARCHITECTURES)}"
            )
        given = self.channels or default_channels(self.img_resolution)
        widths = {int(r): int(n) for r, n in given.items()}
        if sorted(widths) != resolutions(self.img_resolution):
            raise ConfigError(
                f"channels are given for {sorted(widths)}, but {self.img_resolution} px needs "
                f"{resolutions(self.img_resolution)}"
            )
        object.__setattr__(self, "channels", widths)
        object.__setattr__(self, "base", (int(self.base[0]), int(self.base[1])))
        object.__setattr__(self, "resample_filter", tuple(map(float, self.resample_filter)))

    @property
    def num_ws(self) -> int:
        """Number of styles: two a block, less one for the first, plus the last to-RGB."""
        return 2 * len(self.channels)

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width of the pictures; `img_resolution` where `base` is 4 x 4."""
        return block_size(self.base, self.img_resolution)


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        size: tuple[int, int],
        *,
        up: int = 1,
        conv_clamp: float | None = None,
        resample_filter: tuple[float, ...] = (1, 3, 3, 1),
    ) -> None:
        super().__init__()
        self.size, self.up, self.conv_clamp = size, up, conv_clamp
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        weight = torch.randn(out_channels, in_channels, 3, 3)
        self.weight = nn.Parameter(weight.to(memory_format=torch.channels_last))
        self.register_buffer("noise_const", torch.randn(size))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        noise_mode: str,
        gen: Source | None,
        gain: float = 1.0,
    ) -> Tensor:
        """Map `x` [N, C_in, H, W] under styles `w` [N, w_dim] to [N, C_out, H * up, W * up]."""
        return modulated_conv2d(
            x,
            self.weight,
            self.affine(w),
            noise=self._noise(x, noise_mode, gen),
            up=self.up,
            padding=1,
            resample_filter=self.resample_filter,
            flip_weight=self.up == 1,
            bias=self.bias,
            act="lrelu",
            gain=math.sqrt(2) * gain,
            clamp=None if self.conv_clamp is None else self.conv_clamp * gain,
        )

    def _noise(self, x: Tensor, mode: str, gen: Source | None) -> Tensor | None:
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const * self.noise_strength
        shape = (x.shape[0], 1, *self.size)
        noise = torch.randn(shape, device=x.device) if gen is None else randn(shape, gen)
        return noise.to(x.device) * self.noise_strength


class ToRGBLayer(nn.Module):
    """1x1 modulated convolution to picture channels, without demodulation."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, *, conv_clamp: float | None = None
    ) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        weight = torch.randn(out_channels, in_channels, 1, 1)
        self.weight = nn.Parameter(weight.to(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map `x` [N, C_in, H, W] under styles `w` [N, w_dim] to [N, C_out, H, W]."""
        styles = self.affine(w) * self.weight_gain
        return modulated_conv2d(
            x, self.weight, styles, demodulate=False, bias=self.bias, clamp=self.conv_clamp
        )


class SynthesisBlock(nn.Module):
    """One resolution: `forward` advances the features, `paint` the picture."""

    resample_filter: Tensor

    def __init__(self, resolution: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.resolution, self.architecture = resolution, config.architecture
        self.is_first = resolution == 4
        self.is_last = resolution == config.img_resolution
        out, size = config.channels[resolution], block_size(config.base, resolution)
        clamp, taps = config.conv_clamp, config.resample_filter
        self.register_buffer("resample_filter", setup_filter(taps))
        if self.is_first:
            self.const = nn.Parameter(torch.randn(out, *size))
        else:
            self.conv0 = SynthesisLayer(
                config.channels[resolution // 2],
                out,
                config.w_dim,
                size,
                up=2,
                conv_clamp=clamp,
                resample_filter=taps,
            )
        self.conv1 = SynthesisLayer(
            out, out, config.w_dim, size, conv_clamp=clamp, resample_filter=taps
        )
        if self.is_last or config.architecture == "skip":
            self.torgb = ToRGBLayer(out, config.img_channels, config.w_dim, conv_clamp=clamp)
        if not self.is_first and config.architecture == "resnet":
            self.skip = Conv2dLayer(
                config.channels[resolution // 2], out, 1, bias=False, up=2, resample_filter=taps
            )

    def forward(
        self, x: Tensor | None, ws: Sequence[Tensor], noise_mode: str, gen: Source | None
    ) -> Tensor:
        """Return the features [N, C, H, W] of this size.

        Args:
            x: Features of the block below [N, C, H/2, W/2]; None in the first block.
            ws: One style [N, w_dim] a convolution.
            noise_mode: "const", "none" or "random".
            gen: Source of random noise.
        """
        if self.is_first or x is None:
            x = self.const.unsqueeze(0).repeat(len(ws[0]), 1, 1, 1)
            x = x.contiguous(memory_format=torch.channels_last)
            return self.conv1(x, ws[0], noise_mode, gen)
        if self.architecture == "resnet":
            y = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv0(x, ws[0], noise_mode, gen)
            return y + self.conv1(x, ws[1], noise_mode, gen, gain=math.sqrt(0.5))
        x = self.conv0(x, ws[0], noise_mode, gen)
        return self.conv1(x, ws[1], noise_mode, gen)

    def paint(self, img: Tensor | None, x: Tensor, w: Tensor) -> Tensor | None:
        """Return the picture at this size, None where there is none yet.

        `img` is the picture so far, at half the size, or None; `x` the features of this size, and
        `w` [N, w_dim] the style of to-RGB.
        """
        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if not (self.is_last or self.architecture == "skip"):
            return img
        y = self.torgb(x, w).float()
        return y if img is None else img + y


class SynthesisNetwork(Synthesis):
    """ws [N, num_ws, w_dim] -> Rendering."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        self.block_resolutions = resolutions(config.img_resolution)
        doubled = [res for res in self.block_resolutions for _ in range(2)]
        self.layer_resolutions = (*doubled[1:], doubled[-1])  # the last is the to-RGB
        for res in self.block_resolutions:
            setattr(self, f"b{res}", SynthesisBlock(res, config))

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "const",
        feature_resolutions: Iterable[int] = (),
        generator: Source | None = None,
    ) -> Rendering:
        """Draw pictures from styles.

        Args:
            ws: [N, num_ws, w_dim].
            noise_mode: "const" uses the network's stored noise, "none" leaves it out, "random"
                draws it from `generator`.
            feature_resolutions: Sizes whose features are kept: the output of the block's last
                styled convolution (after noise, bias, activation and gain), before to-RGB.
            generator: Source of "random" noise; None uses torch's global one.

        Returns:
            The pictures [N, img_channels, H, W] and {resolution: features [N, C, h, w]}.

        Raises:
            ShapeError: `ws` is of another layer count or width, or a feature resolution is
                outside the network.
            ConfigError: `noise_mode` is unknown.
        """
        wanted = set(feature_resolutions)
        self.check(ws, noise_mode, wanted)
        img, feats = None, {}
        for i, (res, x) in enumerate(self._sizes(ws, noise_mode, generator)):
            img = getattr(self, f"b{res}").paint(img, x, ws[:, 2 * i + 1])
            if res in wanted:
                feats[res] = x
        return Rendering(cast(Tensor, img), feats)  # the last block always has a to-RGB

    def _sizes(
        self, ws: Tensor, noise_mode: str, gen: Source | None, largest: float = math.inf
    ) -> Iterator[tuple[int, Tensor]]:
        styles, x = ws.unbind(dim=1), None
        for i, res in enumerate(self.block_resolutions):
            if res > largest:
                return
            block: SynthesisBlock = getattr(self, f"b{res}")
            x = block(x, styles[max(2 * i - 1, 0) : 2 * i + 1], noise_mode, gen)
            yield res, x


class Generator(Prior):
    """StyleGAN2: `mapping` (z -> ws) and `synthesis` (ws -> picture and features)."""

    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig) -> None:
        synthesis = SynthesisNetwork(config)
        sizes = (config.z_dim, config.c_dim, config.w_dim, config.num_ws)
        layers = config.mapping_layers
        mapping = (
            SteeredMapping(*sizes, num_layers=layers, steered=config.steered)
            if config.steered
            else MappingNetwork(*sizes, num_layers=layers)
        )
        super().__init__(config, synthesis=synthesis, mapping=mapping)
