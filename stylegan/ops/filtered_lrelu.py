"""Leaky ReLU between an upsampling and a downsampling filter, which bounds its aliasing."""

import math

from torch import Tensor

from stylegan.ops.bias_act import bias_act
from stylegan.ops.upfirdn2d import Scale, upfirdn2d


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
    x = bias_act(x, b)
    x = upfirdn2d(x, up_filter, up=up, padding=padding, gain=up**2)
    x = bias_act(x, act="lrelu", alpha=slope, gain=gain, clamp=clamp)
    return upfirdn2d(x, down_filter, down=down)
