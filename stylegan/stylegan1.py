"""The StyleGAN1 generator (Karras et al. 2019): styles scale and shift normalised features.

The layers of one size are a pair: the first enlarges what it is given (at 4 px it holds the learned
constant), the second convolves once more. Weights are scaled by sqrt(2 / fan_in) at run time.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan import layers
from stylegan.errors import ConfigError, ShapeError
from stylegan.layers import FullyConnectedLayer, normalize_2nd_moment, resolutions
from stylegan.ops import bias_act, conv3x3, filter2d, setup_filter
from stylegan.prior import Prior, PriorConfig, Rendering, Synthesis
from stylegan.seeding import Source, randn

_MAPPING_RATE = 0.01


@dataclass(frozen=True, kw_only=True)
class StyleGAN1Config(PriorConfig):
    """The sizes a StyleGAN1 generator is built from."""

    family: ClassVar[str] = "stylegan1"

    mapping_layers: int = 8
    mapping_dim: int = 512  # width between the mapping layers
    channels: dict[int, int] = field(default_factory=dict)  # resolution -> width; {} is the paper's
    fused_from: int = 128  # px from which enlarging and convolving are one transposed convolution

    def __post_init__(self) -> None:
        """Fill in the default widths and check them."""
        sizes = resolutions(self.img_resolution)
        given = self.channels or {r: min(16384 // r, 512) for r in sizes}
        widths = {int(r): int(n) for r, n in given.items()}
        if sorted(widths) != sizes:
            raise ConfigError(
                f"channels are given for {sorted(widths)}, but {self.img_resolution} px "
                f"needs {sizes}"
            )
        object.__setattr__(self, "channels", widths)

    @property
    def num_ws(self) -> int:
        """Number of styles: two a size."""
        return 2 * len(self.channels)


class DenseLayer(nn.Module):
    """Linear layer of the mapping network and leaky ReLU: [N, in] -> [N, out]."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / _MAPPING_RATE)
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.gain = math.sqrt(2 / in_features) * _MAPPING_RATE

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [N, in] to [N, out]."""
        return bias_act(
            x @ (self.weight * self.gain).t(), self.bias * _MAPPING_RATE, act="lrelu", gain=1.0
        )


class MappingNetwork(layers.MappingNetwork):
    """z [N, z_dim] and condition c [N, c_dim] -> ws; z and the class's vector are one input."""

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__(config.z_dim, 0, config.w_dim, config.num_ws, num_layers=0)
        self.c_dim, self.num_layers = config.c_dim, config.mapping_layers
        if config.c_dim:
            self.label_weight = nn.Parameter(torch.randn(config.c_dim, config.z_dim))
        hidden = [config.mapping_dim] * (config.mapping_layers - 1)
        sizes = [config.z_dim * (2 if config.c_dim else 1), *hidden, config.w_dim]
        for i in range(config.mapping_layers):
            self.add_module(f"fc{i}", DenseLayer(sizes[i], sizes[i + 1]))

    def map(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """Return w [N, w_dim] of each row, before truncation and repetition."""
        if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
            got = "nothing" if z is None else list(z.shape)
            raise ShapeError(f"z must be [N, {self.z_dim}], got {got}")
        if self.c_dim:
            if c is None or c.shape != (len(z), self.c_dim):
                got = "nothing" if c is None else list(c.shape)
                raise ShapeError(
                    f"this network is conditional: c must be [N, {self.c_dim}], got {got}"
                )
            z = torch.cat([z, c.to(z) @ self.label_weight], dim=1)
        x = normalize_2nd_moment(z)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x


class SynthesisLayer(nn.Module):
    """Convolution or constant, noise, bias, leaky ReLU, then the style (AdaIN, equation 1)."""

    noise_const: Tensor
    blur: Tensor

    def __init__(self, index: int, config: StyleGAN1Config) -> None:
        super().__init__()
        self.resolution = 4 << (index // 2)
        c_out = config.channels[self.resolution]
        c_in = config.channels[max(self.resolution // 2, 4)] if index % 2 == 0 else c_out
        self.enlarges = index % 2 == 0 and index > 0
        self.fused = self.enlarges and self.resolution >= config.fused_from
        if index == 0:
            self.const = nn.Parameter(torch.ones(c_out, 4, 4))
        else:
            self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.noise_strength = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("noise_const", torch.randn(self.resolution, self.resolution))
        self.register_buffer("blur", setup_filter((1, 2, 1)), persistent=False)
        self.affine = FullyConnectedLayer(config.w_dim, 2 * c_out)

    def forward(self, x: Tensor | None, w: Tensor, noise_mode: str, gen: Source | None) -> Tensor:
        """Map `x` [N, C_in, h, w] (None at the constant) under styles `w` to [N, C_out, H, W]."""
        x = self.const.expand(len(w), -1, -1, -1) if x is None else self._convolved(x)
        noise = self._noise(x, noise_mode, gen)
        if noise is not None:
            x = x + noise * self.noise_strength[:, None, None]
        x = bias_act(x, self.bias, act="lrelu", gain=1.0)
        return restyled(x, self.affine(w))

    def _convolved(self, x: Tensor) -> Tensor:
        weight = self.weight * math.sqrt(2 / self.weight[0].numel())
        if not self.enlarges:
            return conv3x3(x, weight)
        if self.fused:
            x = F.conv_transpose2d(x, _spread(weight), stride=2, padding=1)
        else:
            x = conv3x3(F.interpolate(x, scale_factor=2, mode="nearest"), weight)
        return filter2d(x, self.blur)

    def _noise(self, x: Tensor, mode: str, gen: Source | None) -> Tensor | None:
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const
        shape = (x.shape[0], 1, self.resolution, self.resolution)
        noise = torch.randn(shape, device=x.device) if gen is None else randn(shape, gen)
        return noise.to(x.device)


def restyled(x: Tensor, style: Tensor) -> Tensor:
    """Normalise each feature map of `x` [N,C,H,W]; scale and shift it by `style` [N,2C]."""
    x = x - x.mean(dim=(2, 3), keepdim=True)
    x = x * (x.square().mean(dim=(2, 3), keepdim=True) + 1e-8).rsqrt()
    scale, shift = style[:, :, None, None].chunk(2, dim=1)
    return x * (scale + 1) + shift


def _spread(weight: Tensor) -> Tensor:
    """Turn 3x3 kernels into the 4x4 ones [C_in, C_out, 4, 4] that enlarge as well."""
    wide = F.pad(weight.transpose(0, 1), (1, 1, 1, 1))
    return wide[:, :, 1:, 1:] + wide[:, :, :-1, 1:] + wide[:, :, 1:, :-1] + wide[:, :, :-1, :-1]


class OutputLayer(nn.Module):
    """1x1 convolution to picture channels, without style."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [N, C, H, W] to a picture."""
        return F.conv2d(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class SynthesisNetwork(Synthesis):
    """ws [N, num_ws, w_dim] -> Rendering.

    The buffer `lod` is how many doublings the network is short of its full size: 0 once its
    training by progressive growing has ended.
    """

    lod: Tensor

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__(config)
        self.block_resolutions = resolutions(config.img_resolution)
        self.layer_resolutions = tuple(r for r in self.block_resolutions for _ in range(2))
        self.register_buffer("lod", torch.zeros([]))
        for i in range(self.num_ws):
            self.add_module(f"layer{i}", SynthesisLayer(i, config))
        for i, res in enumerate(self.block_resolutions):
            self.add_module(f"output{i}", OutputLayer(config.channels[res], config.img_channels))

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "const",
        feature_resolutions: Iterable[int] = (),
        generator: Source | None = None,
        lod: float | None = None,
    ) -> Rendering:
        """Draw pictures from styles.

        Args:
            ws: [N, num_ws, w_dim].
            noise_mode: "const" uses the network's stored noise, "none" leaves it out, "random"
                draws it from `generator`.
            feature_resolutions: Sizes whose features are kept: the output of the second layer of
                that size, after its style.
            generator: Source of "random" noise; None uses torch's global one.
            lod: Level of detail: 1 draws at half the size and enlarges by nearest sampling, a
                fraction blends two levels; None takes the network's own.

        Returns:
            The pictures [N, img_channels, H, W] and {resolution: features [N, C, h, w]}.

        Raises:
            ShapeError: `ws` is of another layer count or width, or a feature resolution is
                outside the network.
            ConfigError: `noise_mode` is unknown, or `lod` is outside the network's levels.
        """
        wanted = set(feature_resolutions)
        self.check(ws, noise_mode, wanted)
        level = float(self.lod) if lod is None else lod
        top = len(self.block_resolutions) - 1
        if not 0 <= level <= top:
            raise ConfigError(f"level of detail {level:g}; this network has 0 to {top}")
        img, feats = ws.new_zeros([]), {}
        for i, (res, x) in enumerate(self._sizes(ws, noise_mode, generator)):
            if res in wanted:
                feats[res] = x
            share = max(0.0, 1 - abs(top - i - level))  # of this size's output in the picture
            if share:
                img = img + share * _enlarged(getattr(self, f"output{i}")(x), 2 ** (top - i))
        return Rendering(img.float(), feats)

    def _sizes(
        self, ws: Tensor, noise_mode: str, gen: Source | None, largest: float = math.inf
    ) -> Iterator[tuple[int, Tensor]]:
        x = None
        for i, res in enumerate(self.block_resolutions):
            if res > largest:
                return
            first, second = getattr(self, f"layer{2 * i}"), getattr(self, f"layer{2 * i + 1}")
            x = first(x, ws[:, 2 * i], noise_mode, gen)
            x = second(x, ws[:, 2 * i + 1], noise_mode, gen)
            yield res, x


def _enlarged(img: Tensor, scale: int) -> Tensor:
    return img if scale == 1 else F.interpolate(img, scale_factor=scale, mode="nearest")


class StyleGAN1(Prior):
    """StyleGAN1: `mapping` (z -> ws) and `synthesis` (ws -> picture and features)."""

    config: StyleGAN1Config

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__(config, synthesis=SynthesisNetwork(config), mapping=MappingNetwork(config))
