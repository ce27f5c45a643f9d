"""Move pictures by matrices, differentiable to any order; beyond a border is the mirror image."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SYM2 = (-0.12940952255126037, 0.2241438680420134, 0.8365163037378079, 0.48296291314453416)
"""Symlet of 4 taps (Daubechies 1992, table 6.3): orthogonal to its own even shifts."""

SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
"""Symlet of 12 taps: as SYM2, and as even as such a filter can be."""


def matrix(*rows: tuple[Tensor | float, ...]) -> Tensor:
    """Stack rows of numbers and tensors [N] into matrices [N, len(rows), len(rows)]."""
    entries = [value for row in rows for value in row]
    zero = torch.zeros_like(next(value for value in entries if isinstance(value, Tensor)))
    return torch.stack([zero + v for v in entries], dim=-1).view(-1, len(rows), len(rows))


def scale(x: Tensor, y: Tensor | float) -> Tensor:
    """Return matrices [N, 3, 3] that scale (x, y, 1)."""
    return matrix((x, 0.0, 0.0), (0.0, y, 0.0), (0.0, 0.0, 1.0))


def rotation(cos: Tensor, sin: Tensor) -> Tensor:
    """Return matrices [N, 3, 3] that turn (x, y, 1)."""
    return matrix((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0))


def shift(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices [N, 3, 3] that move (x, y, 1)."""
    return matrix((1.0, 0.0, x), (0.0, 1.0, y), (0.0, 0.0, 1.0))


def replace(images: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Put `change(rows)` in place of the pictures that `chosen` [N] names; the rest stay."""
    rows = chosen.nonzero()[:, 0].to(images.device)
    return images.index_copy(0, rows, change(rows)) if len(rows) else images


def fold(place: Tensor, length: int) -> Tensor:
    """Bring places of an endless mirrored row of pixels into its first copy, 0 .. length - 1.

    >>> fold(torch.tensor([-2, 0, 2, 3, 4, 5]), 3)
    tensor([2, 0, 2, 1, 0, 1])
    """
    last = length - 1
    return last - (place.remainder(max(2 * last, 1)) - last).abs()


def mirror(length: int, margin: int, like: Tensor) -> Tensor:
    """Return the matrix [length + 2 * margin, length] that widens a row of pixels by mirroring."""
    place = fold(torch.arange(-margin, length + margin, device=like.device), length)
    return torch.eye(length, device=like.device, dtype=like.dtype)[place]


def windows(rows: Tensor, taps: Tensor, step: int = 1) -> Tensor:
    """Correlate the rows [L, W] of a matrix with taps [T]; keep every `step`-th place."""
    count = (len(rows) - len(taps)) // step + 1
    parts = [taps[t] * rows[t : t + step * count : step] for t in range(len(taps))]
    return torch.stack(parts).sum(dim=0)


def double(images: Tensor, taps: Tensor) -> Tensor:
    """Enlarge [N, C, H, W] twice along both axes; the filter sees mirrored borders.

    As a product with banded matrices: a CPU multiplies faster than it convolves lone channels.
    """
    half = len(taps) // 2
    across = []
    for length in images.shape[2:]:
        wide = mirror(length, half // 2, images)
        rows = torch.stack([wide, torch.zeros_like(wide)], dim=1).flatten(0, 1)  # zeros between
        across.append(windows(rows, 2 * taps.flip(0))[: 2 * length])
    return across[0] @ images @ across[1].T


def halve(images: Tensor, taps: Tensor) -> Tensor:
    """Shrink [N, C, 2H + T - 2, 2W + T - 2] to [N, C, H, W], undoing `double`; taps [T]."""
    down, right = (windows(torch.eye(n).to(images), taps, 2) for n in images.shape[2:])
    return down @ images @ right.T


def look_up_pixels(images: Tensor, back: Tensor) -> Tensor:
    """Return the pixels of [N, C, H, W] at `back` [N, 3, 3], whole numbers, times (x, y, 1)."""
    channels, height, width = images.shape[1:]
    x, y = _places(back, torch.arange(width, device=back.device), torch.arange(height).to(back))
    index = fold(y.long(), height) * width + fold(x.long(), width)  # [N,H,W]
    index = index.flatten(1)[:, None].expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view_as(images)


def look_up(large: Tensor, back: Tensor, lag: float, edge: int) -> Tensor:
    """Sample a picture of twice the size bilinearly at `back` times (x, y, 1).

    Args:
        large: [N, C, 2H, 2W]; its pixel j stands at (j - lag) / 2 px of the picture.
        back: [N, 3, 3], from pixels of the result to pixels of the picture, before enlarging.
        lag: In pixels of `large`, 0 to 1.
        edge: Pixels of the enlarged result to add on each side.

    Returns:
        [N, C, 2H + 2 * edge, 2W + 2 * edge].
    """
    height, width = large.shape[2] // 2, large.shape[3] // 2
    down = (torch.arange(-edge, 2 * height + edge).to(back) - lag) / 2
    right = (torch.arange(-edge, 2 * width + edge).to(back) - lag) / 2
    x, y = _places(back, right, down)
    x, y = fold(x, width), fold(y, height)
    grid = torch.stack([(2 * x + lag + 0.5) / width, (2 * y + lag + 0.5) / height], dim=-1) - 1
    return bilinear(large, grid)


def _places(back: Tensor, right: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and y [N, len(down), len(right)] of `back` times (right, down, 1)."""
    x_row, y_row = back[:, :2, :, None, None].unbind(dim=1)  # [N,3,1,1] each
    across, along = right[None, None, :], down[None, :, None]
    x = x_row[:, 0] * across + x_row[:, 1] * along + x_row[:, 2]
    y = y_row[:, 0] * across + y_row[:, 1] * along + y_row[:, 2]
    return x, y


def bilinear(images: Tensor, grid: Tensor) -> Tensor:
    """Look [N, C, H, W] up at `grid` [N, h, w, 2]: (x, y), where the picture fills [-1, 1].

    Zero outside; differentiable by the picture to any order, not by the grid.
    """
    result: Tensor = _Sample.apply(images, grid)  # type: ignore[no-untyped-call]
    return result


class _Sample(torch.autograd.Function):
    """Bilinear lookup, linear in the picture: its gradient is the transposed lookup, and so on.

    torch's own gradient of grid_sample has no gradient again, which R1 asks for.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, align_corners=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        result: Tensor = _Spread.apply(grads[0], grid, ctx.shape)  # type: ignore[no-untyped-call]
        return result, None


class _Spread(torch.autograd.Function):
    """Transpose of `_Sample`: add each value to the four pixels it would be looked up from."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        with torch.enable_grad():
            images = values.new_zeros(shape).requires_grad_()
            sampled = F.grid_sample(images, grid, align_corners=False)
        return torch.autograd.grad(sampled, images, values)[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return bilinear(grads[0], grid), None, None


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Move pictures [N, C, H, W] by matrices [N, 3, 3] of (x, y, 1) in pixels from the centre.

    Beyond its border a picture is its mirror image. Where a matrix carries pixels to pixels they
    are copied; else the picture is enlarged twice, looked up bilinearly and shrunk, with the
    orthogonal filter that leaves no trace if nothing moved.
    """
    height, width = images.shape[2:]
    centre = shift(matrices.new_tensor([(width - 1) / 2]), matrices.new_tensor([(height - 1) / 2]))
    back = centre @ torch.linalg.inv(matrices) @ torch.linalg.inv(centre)  # of pixels from (0, 0)
    moved = (back != torch.eye(3, device=back.device)).flatten(1).any(dim=1)
    whole = (back == back.round()).flatten(1).all(dim=1)
    back = back.to(images)
    images = replace(images, moved & whole, lambda rows: look_up_pixels(images[rows], back[rows]))
    return replace(images, ~whole, lambda rows: _resample(images[rows], back[rows]))


def _resample(images: Tensor, back: Tensor) -> Tensor:
    taps = torch.tensor(SYM6).to(images)
    taps = taps / taps.sum()
    half = len(taps) // 2
    lag = float(taps @ torch.arange(len(taps)).to(taps)) - (half - 1)  # of its centre of mass
    return halve(look_up(double(images, taps), back, lag, edge=half - 1), taps)
