"""3x3 convolutions in a quarter of the multiplications, F(4x4, 3x3) of Lavin and Gray (2016).

Tiles of 6x6 pixels that overlap by two become, under a fixed linear map, 36 numbers a channel;
there the convolution is a product of matrices, 36 of them, and a second map gives 4x4 pixels of the
result. It pays in float32 on CPUs where channels are many; results differ by about 1e-4 of their
size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

STRIP = 2**21  # transformed values at once: they are to stay in the cache
MIN_CHANNELS = 96
MIN_PIXELS = 256

_PIXELS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_RESULT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
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
        n, c_in, height, width = x.shape
        to_tile, to_pixels = _map(_PIXELS, x), _map(_RESULT, x)  # [36, 36], [16, 36]
        size, last = (n, weight.shape[2], height, width), torch.channels_last
        y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=last)
        places = y.permute(0, 2, 3, 1).view(n, height // 4, 4, width // 4, 4, -1)
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        tiles = x.unfold(1, 6, 4).unfold(2, 6, 4)  # [N, H/4, W/4, C_in, 6, 6]
        rows = _rows(n, width, weight)
        strips = (torch.split(t, rows, dim=1) for t in (tiles, places))
        for part, to in zip(*strips, strict=True):
            values = to_tile @ part.permute(4, 5, 0, 1, 2, 3).reshape(36, -1)
            product = torch.bmm(values.view(36, -1, c_in), weight)  # [36, tiles, C_out]
            pixels = (to_pixels @ product.view(36, -1)).view(4, 4, n, *part.shape[1:3], -1)
            to.copy_(pixels.permute(2, 3, 0, 4, 1, 5))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        n, c_out, height, width = dy.shape
        to_tile, to_pixels = _map(_PIXELS, dy).t(), _map(_RESULT, dy).t()
        wide, rows = width // 4, _rows(n, width, weight)
        dx = dy.new_zeros(n, height // 4 + 1, 4, wide + 1, 4, weight.shape[1])
        for i, part in enumerate(torch.split(dy.permute(0, 2, 3, 1), 4 * rows, dim=1)):
            tall = part.shape[1] // 4
            y = part.reshape(n, tall, 4, wide, 4, c_out).permute(2, 4, 0, 1, 3, 5)
            product = (to_pixels @ y.reshape(16, -1)).view(36, -1, c_out)
            values = torch.bmm(product, weight.mT).view(36, -1)
            tiles = (to_tile @ values).view(6, 6, n, tall, wide, -1).permute(2, 3, 0, 4, 1, 5)
            to = dx[:, i * rows : i * rows + tall + 1]  # tiles overlap by two pixels
            to[:, :tall, :, :wide] += tiles[:, :, :4, :, :4]
            to[:, :tall, :, 1:, :2] += tiles[:, :, :4, :, 4:]
            to[:, 1:, :2, :wide] += tiles[:, :, 4:, :, :4]
            to[:, 1:, :2, 1:, :2] += tiles[:, :, 4:, :, 4:]
        dx = dx.view(n, height + 4, width + 4, -1)[:, 1 : height + 1, 1 : width + 1]
        return dx.permute(0, 3, 1, 2), None


def _rows(num: int, width: int, weight: Tensor) -> int:
    """Return how many rows of tiles are worked on at once."""
    return max(1, STRIP // (9 * num * width * max(weight.shape[1:])))


def _map(rows: tuple[tuple[int, ...], ...], like: Tensor) -> Tensor:
    """Return the map of both axes at once."""
    one = torch.tensor(rows, dtype=like.dtype, device=like.device)
    return torch.kron(one, one)
