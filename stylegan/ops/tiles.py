"""Tiles of pixels to Winograd's values and back: the linear maps of F(4x4, 3x3).

See Lavin and Gray (2016). A tile is 4x4 pixels, or 6x6 with a border of one, which overlap by two.
Its 36 values a channel are M p M^T, and the transposed way is M^T v M.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.ops.build import uses_native

_MAPS = {
    6: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    4: ((1, 0, 0, 0), (1, 1, 1, 1), (1, -1, 1, -1), (1, 2, 4, 8), (1, -2, 4, -8), (0, 0, 0, 1)),
}  # M [6, size]


def spread_tiles(x: Tensor, size: int, first: int, rows: int) -> Tensor:
    """Return the values of some rows of tiles.

    Args:
        x: [N, C, H, W], H and W multiples of four; pixels beyond its border are zero.
        size: 4 or 6, the side of a tile.
        first: Row of tiles to begin with.
        rows: Their number.

    Returns:
        [36, N * rows * W/4, C].
    """
    if _is_native(x):
        return torch.ops.fewshot_smis.spread_tiles(x, size, first, rows)
    edge = (size - 4) // 2
    top, bottom = 4 * first - edge, 4 * (first + rows) + edge
    part = x[:, :, max(top, 0) : min(bottom, x.shape[2])]
    part = F.pad(part, (edge, edge, max(-top, 0), max(bottom - x.shape[2], 0)))
    tiles = F.unfold(part, size, stride=4).view(len(x), x.shape[1], size**2, -1)  # [N,C,size^2,P]
    return (_both(size, x) @ tiles.permute(2, 0, 3, 1).flatten(1)).view(36, -1, x.shape[1])


def gather_tiles(values: Tensor, y: Tensor, size: int, first: int, rows: int) -> None:
    """Write the pixels of some rows of tiles into `y`; those of 6x6 tiles are added.

    Args:
        values: [36, N * rows * W/4, C].
        y: [N, C, H, W], channels_last.
        size: 4 or 6, the side of a tile.
        first: Row of tiles to begin with.
        rows: Their number.
    """
    if _is_native(y):
        torch.ops.fewshot_smis.gather_tiles(values, y, size, first, rows)
        return
    n, c, height, width = y.shape
    edge = (size - 4) // 2
    top, bottom = 4 * first - edge, 4 * (first + rows) + edge
    pixels = (_both(size, y).t() @ values.flatten(1)).view(size**2, n, -1, c)
    pixels = pixels.permute(1, 3, 0, 2).flatten(1, 2)  # [N,C*size^2,P]
    drawn = F.fold(pixels, (bottom - top, width), size, padding=(0, edge), stride=4)
    inside = slice(max(top, 0), min(bottom, height))
    drawn = drawn[:, :, inside.start - top : inside.stop - top]
    if size == 4:
        y[:, :, inside] = drawn
    else:
        y[:, :, inside] += drawn


def _is_native(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and uses_native(x)


def _both(size: int, like: Tensor) -> Tensor:
    """Return the map of both axes at once, [36, size^2]."""
    one = torch.tensor(_MAPS[size], dtype=like.dtype, device=like.device)
    return torch.kron(one, one)
