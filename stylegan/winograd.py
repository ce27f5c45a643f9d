"""3x3 convolutions in a quarter of the multiplications, F(4x4, 3x3) of Lavin and Gray (2016).

Tiles of 6x6 pixels that overlap by two become, under a fixed linear map, 36 numbers a channel;
there the convolution is a product of matrices, 36 of them, and a second map gives 4x4 pixels of the
result. It pays in float32 on CPUs where channels are many; results differ by about 1e-4 of their
size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylegan.ops import gather_tiles, spread_tiles

STRIP = 2**22  # transformed values at once: few for the cache, enough for the products
MIN_CHANNELS = 64
MIN_PIXELS = 256

_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def pays(weight: Tensor, size: tuple[int, int]) -> bool:
    """Tell whether this is faster than `weight` [C_out, C_in, 3, 3] on features of `size`."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and min(weight.shape[:2]) >= MIN_CHANNELS
        and size[0] * size[1] >= MIN_PIXELS
        and size[0] % 4 == size[1] % 4 == 0
    )


def transformed(weight: Tensor) -> Tensor:
    """Return weights [C_out, C_in, 3, 3] as `convolve` takes them, [36, C_in, C_out]."""
    g = torch.tensor(_KERNEL, dtype=torch.float64, device=weight.device)
    u = torch.einsum("ay,ocyx,bx->abco", g, weight.double(), g)
    return u.flatten(0, 1).to(weight.dtype).contiguous()


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Correlate `x` [N, C_in, H, W] with `transformed` weights and padding 1: [N, C_out, H, W].

    H and W are multiples of four; the result is channels_last. Differentiable by `x`, once.
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


def _walked(x: Tensor, weight: Tensor, *, tile: int) -> Tensor:
    """Go over `x` in strips of rows: its tiles, 36 products of matrices, the other tiles."""
    n, _, height, width = x.shape
    size, last = (n, weight.shape[2], height, width), torch.channels_last
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=last)
    if tile == 4:  # 6x6 tiles come out, which overlap and are added
        y.zero_()
    most = max(1, STRIP // (9 * n * width * max(weight.shape[1:])))
    for first in range(0, height // 4, most):
        rows = min(most, height // 4 - first)
        values = torch.bmm(spread_tiles(x, tile, first, rows), weight)
        gather_tiles(values, y, 10 - tile, first, rows)
    return y
