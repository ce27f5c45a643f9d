"""Upsample, pad, filter, downsample: the resampler of StyleGAN."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import ShapeError
from stylegan.ops import native
from stylegan.ops.build import uses_native

Scale = int | Sequence[int]


def setup_filter(
    f: Sequence[float] | Tensor | None,
    *,
    normalize: bool = True,
    gain: float = 1.0,
    flip_filter: bool = False,
    separable: bool | None = None,
) -> Tensor:
    """Make a FIR filter for `upfirdn2d`.

    Args:
        f: Taps [n] or [h, w]; None is the identity.
        normalize: Scale the taps to sum to one.
        gain: Factor on a picture of constant value.
        flip_filter: Reverse the taps.
        separable: Keep 1-D taps as they are; None keeps them from eight taps on.

    Returns:
        float32 taps, [n] when separable, else [h, w].
    """
    taps = torch.as_tensor([1.0] if f is None else f, dtype=torch.float32)
    if taps.ndim not in (1, 2) or taps.numel() == 0:
        raise ShapeError(f"a filter is [n] or [h, w] taps, not {list(taps.shape)}")
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= 8
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return taps * gain ** (taps.ndim / 2)


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    *,
    up: Scale = 1,
    down: Scale = 1,
    padding: Scale = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Resample pictures in four steps.

    1. Put `up - 1` zeros after every pixel.
    2. Pad with zeros; negative padding crops.
    3. Convolve each channel with the filter, keeping the pixels where it fits.
    4. Keep every `down`-th pixel.

    Args:
        x: [N, C, H, W], any floating dtype.
        f: Filter [n] (applied along both axes) or [h, w]; None is the identity.
        up: Factor, or (x, y) factors.
        down: Factor, or (x, y) factors.
        padding: One width, (x, y), or (x before, x after, y before, y after), counted after
            upsampling.
        flip_filter: Correlate instead of convolving.
        gain: Factor on the result.

    Returns:
        [N, C, (H * up + padding - h) // down + 1, ...]. Differentiable twice.

    Raises:
        ShapeError: `x` is not 4-D, or the filter is larger than the padded picture.
    """
    if x.ndim != 4:
        raise ShapeError(f"expected pictures [N, C, H, W], got {list(x.shape)}")
    up_x, up_y = _pair(up)
    down_x, down_y = _pair(down)
    around = _borders(padding)
    height = x.shape[2] * up_y + around[2] + around[3]
    width = x.shape[3] * up_x + around[0] + around[1]
    f = torch.ones(1, 1, device=x.device) if f is None else f
    _check_fits(f, height, width)
    if uses_native(x) and native.takes_filter(f):
        return native.upfirdn2d(x, f, (up_x, up_y), (down_x, down_y), around, flip_filter, gain)
    return _reference(x, f, (up_x, up_y), (down_x, down_y), around, flip_filter, gain)


def _reference(
    x: Tensor,
    f: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """Do the four steps one by one, in plain torch."""
    down_x, down_y = down
    taps = f.to(x.dtype)
    if not flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    taps = taps * gain ** (taps.ndim / 2)
    x = F.pad(_insert_zeros(x, *up), list(padding))
    channels = x.shape[1]
    if taps.ndim == 1:
        column = taps[None, None, :, None].expand(channels, 1, -1, 1)
        row = taps[None, None, None, :].expand(channels, 1, 1, -1)
        x = F.conv2d(x, column, stride=(down_y, 1), groups=channels)
        return F.conv2d(x, row, stride=(1, down_x), groups=channels)
    if taps.numel() == 1:
        return x[:, :, ::down_y, ::down_x] * taps
    weight = taps[None, None].expand(channels, 1, -1, -1)
    return F.conv2d(x, weight, stride=(down_y, down_x), groups=channels)


def filter2d(
    x: Tensor, f: Tensor, *, padding: Scale = 0, flip_filter: bool = False, gain: float = 1.0
) -> Tensor:
    """Filter `x` [N, C, H, W], keeping its size (plus `padding` on each side)."""
    fw, fh = _taps(f)
    left, right, top, bottom = _borders(padding)
    around = (left + fw // 2, right + (fw - 1) // 2, top + fh // 2, bottom + (fh - 1) // 2)
    return upfirdn2d(x, f, padding=around, flip_filter=flip_filter, gain=gain)


def upsample2d(
    x: Tensor,
    f: Tensor,
    *,
    up: Scale = 2,
    padding: Scale = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Enlarge `x` [N, C, H, W] `up` times; a constant picture keeps its value."""
    up_x, up_y = _pair(up)
    fw, fh = _taps(f)
    before = ((fw + up_x - 1) // 2, (fh + up_y - 1) // 2)
    after = ((fw - up_x) // 2, (fh - up_y) // 2)
    around = _widened(padding, before, after)
    scale = gain * up_x * up_y
    return upfirdn2d(x, f, up=up, padding=around, flip_filter=flip_filter, gain=scale)


def downsample2d(
    x: Tensor,
    f: Tensor,
    *,
    down: Scale = 2,
    padding: Scale = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Shrink `x` [N, C, H, W] `down` times."""
    down_x, down_y = _pair(down)
    fw, fh = _taps(f)
    before = ((fw - down_x + 1) // 2, (fh - down_y + 1) // 2)
    after = ((fw - down_x) // 2, (fh - down_y) // 2)
    around = _widened(padding, before, after)
    return upfirdn2d(x, f, down=down, padding=around, flip_filter=flip_filter, gain=gain)


def _check_fits(f: Tensor, height: int, width: int) -> None:
    taps_x, taps_y = _taps(f)
    if height < taps_y or width < taps_x:
        raise ShapeError(
            f"a filter of {taps_y}x{taps_x} taps does not fit a padded picture of {height}x{width}"
        )


def _insert_zeros(x: Tensor, up_x: int, up_y: int) -> Tensor:
    if up_x == up_y == 1:
        return x
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, h * up_y, w * up_x)
    if x.is_contiguous(memory_format=torch.channels_last):
        spread = spread.contiguous(memory_format=torch.channels_last)
    spread[:, :, ::up_y, ::up_x] = x
    return spread


def _pair(scale: Scale) -> tuple[int, int]:
    """Read a factor as (x, y)."""
    return (scale, scale) if isinstance(scale, int) else (scale[0], scale[1])


def _borders(padding: Scale) -> tuple[int, int, int, int]:
    """Read a padding as (left, right, top, bottom)."""
    if isinstance(padding, int):
        return (padding,) * 4
    if len(padding) == 2:
        return (padding[0], padding[0], padding[1], padding[1])
    return (padding[0], padding[1], padding[2], padding[3])


def _widened(
    padding: Scale, before: tuple[int, int], after: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Add (x, y) widths before and after to a padding."""
    left, right, top, bottom = _borders(padding)
    return (left + before[0], right + after[0], top + before[1], bottom + after[1])


def _taps(f: Tensor) -> tuple[int, int]:
    """Read a filter's size as (width, height)."""
    return f.shape[-1], f.shape[0]
