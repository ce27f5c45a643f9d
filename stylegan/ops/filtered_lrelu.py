"""Leaky ReLU between an upsampling and a downsampling filter, which bounds its aliasing."""

import math

import torch
from torch import Tensor

from stylegan.errors import ShapeError
from stylegan.ops import native
from stylegan.ops.bias_act import bias_act
from stylegan.ops.build import uses_native
from stylegan.ops.upfirdn2d import Scale, _borders, _check_fits, upfirdn2d


def filtered_lrelu(
    x: Tensor,
    *,
    up_filter: Tensor | None = None,
    down_filter: Tensor | None = None,
    b: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Scale = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
) -> Tensor:
    """Add a bias, upsample, apply leaky ReLU, downsample (StyleGAN3, section 3.2).

    A pointwise nonlinearity creates frequencies above what the pixels can hold; at the higher
    rate they are still told apart, and the second filter removes them.

    Args:
        x: [N, C, H, W], any floating dtype.
        up_filter: Taps [n] or [h, w] at the higher rate; None is the identity.
        down_filter: Likewise, for the way down.
        b: Bias [C], or None.
        up: Upsampling factor.
        down: Downsampling factor.
        padding: As in `upfirdn2d`, counted at the higher rate.
        gain: Factor after the activation.
        slope: Slope of the leaky ReLU; 1 is the identity.
        clamp: Bound on the magnitude after the gain, or None.

    Returns:
        [N, C, H', W'] with H' = (H * up + padding - taps_up - taps_down + 1) // down + 1.
        Differentiable twice.

    Raises:
        ShapeError: `b` does not fit, or a filter is larger than the padded picture.
    """
    identity = torch.ones(1, 1, device=x.device)
    filters = (
        identity if up_filter is None else up_filter,
        identity if down_filter is None else down_filter,
    )
    _check(x, b, filters, up, padding)
    if up_filter is None and down_filter is None and up == down == 1 and not any(_borders(padding)):
        return bias_act(x, b, act="lrelu", alpha=slope, gain=gain, clamp=clamp)
    if uses_native(x) and native.takes_filtered_lrelu(x, b, filters, up, down):
        return native.filtered_lrelu(
            x, b, filters, up=up, down=down, padding=_borders(padding), gain=gain,
            slope=slope, clamp=clamp,
        )  # fmt: skip
    x = bias_act(x, b)
    x = upfirdn2d(x, up_filter, up=up, padding=padding, gain=up**2)
    x = bias_act(x, act="lrelu", alpha=slope, gain=gain, clamp=clamp)
    return upfirdn2d(x, down_filter, down=down)


def _check(
    x: Tensor, b: Tensor | None, filters: tuple[Tensor, Tensor], up: int, padding: Scale
) -> None:
    """Raise what the plain operators would."""
    if x.ndim != 4:
        raise ShapeError(f"expected pictures [N, C, H, W], got {list(x.shape)}")
    if b is not None and b.shape != x.shape[1:2]:
        raise ShapeError(f"bias of shape {list(b.shape)} does not fit pictures {list(x.shape)}")
    left, right, top, bottom = _borders(padding)
    height, width = x.shape[2] * up + top + bottom, x.shape[3] * up + left + right
    _check_fits(filters[0], height, width)
    _check_fits(filters[1], height - filters[0].shape[0] + 1, width - filters[0].shape[-1] + 1)
