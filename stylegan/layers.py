"""The layers all StyleGANs share: equalised linear and convolution, mapping network, noise.

Parameters are drawn from N(0, 1) and scaled by 1 / sqrt(fan_in) at run time (the equalised
learning rate of Progressive GANs), so that Adam moves all of them at one speed.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from stylegan.errors import ShapeError
from stylegan.ops import bias_act, conv2d_resample, conv3x3, setup_filter


def normalize_2nd_moment(x: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Scale `x` to unit mean square along `dim` (the papers' pixel norm)."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


class FullyConnectedLayer(nn.Module):
    """Equalised linear layer with activation: [N, in_features] -> [N, out_features]."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,  # scales gradients and, inversely, the initial weights
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [N, in_features] to [N, out_features]."""
        w = self.weight.to(x.dtype) * self.weight_gain
        b = self.bias * self.bias_gain
        return bias_act(x @ w.t(), b, act=self.activation)


class SameConv(nn.Conv2d):
    """3x3 convolution that keeps the size, without equalised learning rate."""

    def __init__(self, channels: int, out: int, *, bias: bool = True) -> None:
        super().__init__(channels, out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [N, channels, H, W] to [N, out, H, W]."""
        return conv3x3(x, self.weight, self.bias)


class Conv2dLayer(nn.Module):
    """Equalised convolution with optional resampling: [N, C_in, H, W] -> [N, C_out, H', W']."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: tuple[float, ...] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.up, self.down, self.conv_clamp = activation, up, down, conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        weight = torch.randn(shape).to(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Convolve `x`; `gain` multiplies the activation's own gain and the clamp."""
        x = conv2d_resample(
            x,
            self.weight * self.weight_gain,
            f=self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=self.up == 1,
        )
        return activate(x, self.bias, self.activation, gain, self.conv_clamp)


def activate(x: Tensor, bias: Tensor | None, act: str, gain: float, clamp: float | None) -> Tensor:
    """Add the bias and activate; `gain` multiplies the activation's gain and the clamp alike."""
    own = math.sqrt(2) if act == "lrelu" else 1.0
    bound = None if clamp is None else clamp * gain
    return bias_act(x, bias, act=act, gain=own * gain, clamp=bound)


class MappingNetwork(nn.Module):
    """z [N, z_dim] and condition c [N, c_dim] -> ws [N, num_ws, w_dim].

    `num_ws` None gives w [N, w_dim] and no average, as the discriminator's condition needs.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        *,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.998,  # decay of the running average of w during training
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        embed_dim = w_dim if c_dim > 0 else 0
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_dim)
        sizes = [z_dim + embed_dim] + [w_dim] * num_layers
        for i in range(num_layers):
            layer = FullyConnectedLayer(
                sizes[i], sizes[i + 1], activation="lrelu", lr_multiplier=lr_multiplier
            )
            setattr(self, f"fc{i}", layer)
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def map(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """Return w [N, w_dim] of each row, before averaging, truncation and repetition."""
        parts = []
        if self.z_dim > 0:
            if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
                got = "nothing" if z is None else list(z.shape)
                raise ShapeError(f"z must be [N, {self.z_dim}], got {got}")
            parts.append(normalize_2nd_moment(z))
        if self.c_dim > 0:
            if c is None or c.ndim != 2 or c.shape[1] != self.c_dim:
                got = "nothing" if c is None else list(c.shape)
                raise ShapeError(
                    f"this network is conditional: c must be [N, {self.c_dim}], got {got}; "
                    "`prior convert --label CLASS` keeps one class of it, without a condition"
                )
            parts.append(normalize_2nd_moment(self.embed(c.to(self.embed.weight.dtype))))
        x = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map latents to styles.

        Args:
            z: [N, z_dim] from N(0, I).
            c: [N, c_dim] one-hot or dense labels; None when `c_dim` is 0.
            truncation_psi: 1 leaves w alone, 0 gives the average w.
            truncation_cutoff: Truncate the first so many layers only; None truncates all.

        Returns:
            ws [N, num_ws, w_dim], the same w for each layer.

        Raises:
            ShapeError: `z` or `c` is missing or of the wrong width.
        """
        w = self.map(z, c)
        if self.num_ws is None:
            return w
        ws = w.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi == 1.0:
            return ws
        cut = self.num_ws if truncation_cutoff is None else truncation_cutoff
        head = self.w_avg.lerp(ws[:, :cut], truncation_psi)
        return torch.cat([head, ws[:, cut:]], dim=1)

    @torch.no_grad()
    def update_average(self, w: Tensor) -> None:
        """Move `w_avg` towards the mean of `w` [N, w_dim]; training calls it once a step."""
        self.w_avg.copy_(w.detach().float().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))


def resolutions(img_resolution: int) -> list[int]:
    """Return the block sizes 4, 8, ..., `img_resolution`.

    Raises:
        ShapeError: `img_resolution` is not a power of two of at least 4.
    """
    top = int(np.log2(max(img_resolution, 1)))
    if img_resolution < 4 or 2**top != img_resolution:
        raise ShapeError(f"resolution {img_resolution} is not a power of two of at least 4")
    return [2**i for i in range(2, top + 1)]


def default_channels(
    img_resolution: int, channel_base: int = 32768, channel_max: int = 512
) -> dict[int, int]:
    """Return channels per resolution, `channel_base / resolution` up to `channel_max`."""
    return {r: min(channel_base // r, channel_max) for r in resolutions(img_resolution)}


def block_size(base: tuple[int, int], resolution: int) -> tuple[int, int]:
    """Return height and width of the block named `resolution`, which is 4 at `base`.

    >>> block_size((4, 6), 64)
    (64, 96)
    """
    return base[0] * resolution // 4, base[1] * resolution // 4


def fit_base(height: int, width: int) -> tuple[int, tuple[int, int]]:
    """Return the resolution and the base of a network for pictures of `height` x `width`.

    The base is the smallest of at least 4 x 4 that doubles to the size.

    >>> fit_base(128, 128), fit_base(64, 96)
    ((128, (4, 4)), (64, (4, 6)))

    Raises:
        ShapeError: The sides share too small a power of two.
    """
    resolution, base = 4, (height, width)
    while all(side % 2 == 0 and side >= 8 for side in base):
        resolution, base = resolution * 2, (base[0] // 2, base[1] // 2)
    if max(base) >= 32 or min(base) < 4 or resolution < 8:
        raise ShapeError(
            f"a network cannot draw {height}x{width}: the sides must be small numbers of at least "
            "4, doubled equally often, as 64x96 = 4x6 doubled four times"
        )
    return resolution, base
