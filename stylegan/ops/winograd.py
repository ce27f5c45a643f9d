"""3x3 convolutions in a quarter of the multiplications, F(4x4, 3x3) of Lavin and Gray (2016).

Tiles of 6x6 pixels that overlap by two become, under a fixed linear map, 36 numbers a channel;
there the convolution is a product of matrices, 36 of them, and a second map gives 4x4 pixels of the
result. The gradient of the weights goes the same way, its maps transposed. It pays in float32 on
CPUs where channels are many; results differ by a few millionths of their norm.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylegan.ops.build import uses_native
from stylegan.ops.tiles import gather_tiles, spread_tiles

STRIP = 2**22  # transformed values at once: few for the cache, enough for the products
MIN_CHANNELS = 48
MIN_PIXELS = 256

_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def pays(weight: Tensor, size: tuple[int, int], num: int = 1) -> bool:
    """Tell whether Winograd's way is faster with `weight` [C_out, C_in, 3, 3].

    `size` is the height and width of the features, `num` how many pictures are known to come.
    """
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and min(weight.shape[:2]) >= MIN_CHANNELS
        and num * size[0] * size[1] >= MIN_PIXELS
        and size[0] % 4 == size[1] % 4 == 0
    )


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Correlate `x` [N, C_in, H, W] with `weight` [C_out, C_in, 3, 3] and padding 1.

    `bias` [C_out] is added: [N, C_out, H, W]. Differentiable by all, any number of times; shapes
    that do not fit raise torch's RuntimeError.
    """
    num, _, *size = x.shape
    many = num * size[0] * size[1] >= max(weight.shape[:2])  # enough to transform the weights for
    fast = many and pays(weight, (size[0], size[1]), num)
    if fast and not torch.is_autocast_enabled("cpu") and uses_native(x):
        y = _correlate(x, weight, False)
        return y if bias is None else y + bias[:, None, None]
    return F.conv2d(x, weight, bias, padding=1)


def transformed(weight: Tensor) -> Tensor:
    """Return weights [C_out, C_in, 3, 3] as `convolve` takes them, [36, C_in, C_out]."""
    return _values(weight).mT.contiguous()


def _values(weight: Tensor) -> Tensor:
    """Map weights [C_out, C_in, 3, 3] to [36, C_out, C_in]."""
    taps = weight.permute(2, 3, 0, 1).reshape(9, -1)
    return (_both(weight) @ taps).view(36, *weight.shape[:2])


def _both(like: Tensor) -> Tensor:
    """Return the map of the weights, for both axes at once: [36, 9]."""
    one = torch.tensor(_KERNEL, dtype=torch.float64)
    return torch.kron(one, one).to(like)


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Correlate `x` [N, C_in, H, W] with `transformed` weights and padding 1: [N, C_out, H, W].

    H and W are multiples of four; the result is channels_last. Differentiable by `x`, once, which
    keeps no features.
    """
    return _Convolution.apply(x, weight)  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    """The three linear maps, and in the backward pass their transposes in the other order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return _walked(x, weight, tile=6)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return _walked(dy, weight.mT, tile=4), None


class _Correlation(torch.autograd.Function):
    """`F.conv2d` with padding 1, or its transposed; its gradients are convolutions again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.transposed = transposed
        if transposed:
            return _walked(x, _values(weight.flip([2, 3])), tile=6)
        return _walked(x, _values(weight).mT, tile=6)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _correlate(dy, weight, not ctx.transposed)
        if ctx.needs_input_grad[1]:
            dw = _match(dy, x) if ctx.transposed else _match(x, dy)
        return dx, dw, None


class _Match(torch.autograd.Function):
    """The gradient of the weights, from features and the gradient of their convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor) -> Tensor:
        ctx.save_for_backward(x, dy)
        values = x.new_zeros(36, dy.shape[1], x.shape[1])
        for first, rows in _strips(x, max(values.shape[1:])):
            values.baddbmm_(spread_tiles(dy, 4, first, rows).mT, spread_tiles(x, 6, first, rows))
        taps = _both(x).t() @ values.flatten(1)
        return taps.view(3, 3, *values.shape[1:]).permute(2, 3, 0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> tuple[Tensor, Tensor]:
        x, dy = ctx.saved_tensors
        return _correlate(dy, ddw, True), _correlate(x, ddw, False)


def _correlate(x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    return _Correlation.apply(x, weight, transposed)  # type: ignore[no-untyped-call]


def _match(x: Tensor, dy: Tensor) -> Tensor:
    return _Match.apply(x, dy)  # type: ignore[no-untyped-call]


def _walked(x: Tensor, weight: Tensor, *, tile: int) -> Tensor:
    """Go over `x` in strips of rows: its tiles, 36 products of matrices, the other tiles."""
    n, _, height, width = x.shape
    size, last = (n, weight.shape[2], height, width), torch.channels_last
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=last)
    if tile == 4:  # 6x6 tiles come out, which overlap and are added
        y.zero_()
    for first, rows in _strips(x, max(weight.shape[1:])):
        values = torch.bmm(spread_tiles(x, tile, first, rows), weight)
        gather_tiles(values, y, 10 - tile, first, rows)
    return y


def _strips(x: Tensor, channels: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of tiles of each strip, and its number of rows."""
    n, _, height, width = x.shape
    most = max(1, STRIP // (9 * n * width * channels))
    for first in range(0, height // 4, most):
        yield first, min(most, height // 4 - first)
