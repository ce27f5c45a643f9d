"""Convolutions that resample, and convolutions whose weights a style modulates."""

import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import ShapeError
from stylegan.ops.bias_act import bias_act
from stylegan.ops.upfirdn2d import Scale, _borders, upfirdn2d
from stylegan.ops.winograd import conv3x3


def conv2d_resample(
    x: Tensor,
    w: Tensor,
    *,
    f: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Scale = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> Tensor:
    """Upsample with a FIR filter, convolve, and downsample with the same filter.

    Args:
        x: [N, C_in, H, W].
        w: [C_out, C_in / groups, kh, kw].
        f: FIR filter [n] or [h, w]; None is the identity.
        up: Factor before the convolution.
        down: Factor after it.
        padding: Zero padding of the upsampled picture, as in `upfirdn2d`.
        groups: Groups of the convolution.
        flip_weight: Correlate, as `torch.conv2d` does; False convolves.
        flip_filter: Correlate with the FIR filter instead of convolving.

    Returns:
        [N, C_out, H * up / down, W * up / down] with "same" padding. Differentiable twice.

    Raises:
        ShapeError: `w` does not fit the channels of `x`.
    """
    if w.ndim != 4 or w.shape[1] * groups != x.shape[1]:
        raise ShapeError(
            f"weights {list(w.shape)} in {groups} groups do not fit {x.shape[1]} channels"
        )
    w = w.to(x.dtype)
    kh, kw = w.shape[2:]
    fw, fh = (1, 1) if f is None else (f.shape[-1], f.shape[0])
    left, right, top, bottom = _borders(padding)
    if up > 1:
        left, right = left + (fw + up - 1) // 2, right + (fw - up) // 2
        top, bottom = top + (fh + up - 1) // 2, bottom + (fh - up) // 2
    if down > 1:
        left, right = left + (fw - down + 1) // 2, right + (fw - down) // 2
        top, bottom = top + (fh - down + 1) // 2, bottom + (fh - down) // 2
    around = (left, right, top, bottom)

    if up > 1 and down == 1 and kh == kw == 1:
        # A 1x1 convolution commutes with the filter: convolve the small picture.
        x = _conv(x, w, flip_weight, groups=groups)
        return upfirdn2d(x, f, up=up, padding=around, flip_filter=flip_filter, gain=up**2)
    if up > 1 and down == 1:
        # Zero insertion and convolution are one transposed convolution; the filter follows.
        x = _transposed(x, w, flip_weight, up=up, groups=groups)
        inner = (left - kw + 1, right - kw + up, top - kh + 1, bottom - kh + up)
        return upfirdn2d(x, f, padding=inner, flip_filter=flip_filter, gain=up**2)
    if up == 1 and down > 1:
        if kh == kw == 1:
            x = upfirdn2d(x, f, down=down, padding=around, flip_filter=flip_filter)
            return _conv(x, w, flip_weight, groups=groups)
        x = upfirdn2d(x, f, padding=around, flip_filter=flip_filter)
        return _conv(x, w, flip_weight, stride=down, groups=groups)
    if up == down == 1:
        same = left == right and top == bottom and min(around) >= 0
        if same:
            return _conv(x, w, flip_weight, padding=(top, left), groups=groups)
        return _conv(F.pad(x, list(around)), w, flip_weight, groups=groups)
    x = upfirdn2d(x, f, up=up, padding=around, flip_filter=flip_filter, gain=up**2)
    x = _conv(x, w, flip_weight, groups=groups)
    return upfirdn2d(x, f, down=down, flip_filter=flip_filter)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    noise: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Scale = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    bias: Tensor | None = None,
    act: str = "linear",
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """Convolve with weights scaled per sample and input channel (StyleGAN2, section 2.2).

    Scaling the weights of a sample equals scaling its input channels, and demodulating them
    equals scaling its output channels, so that one ordinary convolution serves the batch:
    `y = d * conv(s * x)`, `d = rsqrt(sum (w * s)^2 + 1e-8)`.

    Args:
        x: [N, C_in, H, W].
        weight: [C_out, C_in, kh, kw], used as given.
        styles: [N, C_in].
        noise: Added to the result; broadcasts to [N, C_out, H * up, W * up]. Or None.
        up: Upsampling factor.
        down: Downsampling factor.
        padding: As in `conv2d_resample`.
        resample_filter: FIR filter of the resampling.
        demodulate: Scale each output channel to the variance of the input.
        flip_weight: Correlate; False convolves.
        bias: Added after the noise, [C_out]; or None.
        act: Activation after the bias, as in `bias_act`.
        gain: Factor after the activation.
        clamp: Bound on the magnitude of the result, or None.

    Returns:
        [N, C_out, H * up / down, W * up / down]. Differentiable twice.

    Raises:
        ShapeError: `styles` is not [N, C_in].
    """
    if styles.shape != x.shape[:2]:
        raise ShapeError(
            f"styles {list(styles.shape)} do not fit pictures {list(x.shape)}; "
            f"expected {list(x.shape[:2])}"
        )
    x = bias_act(x, scale=styles)
    x = conv2d_resample(
        x, weight, f=resample_filter, up=up, down=down, padding=padding, flip_weight=flip_weight
    )
    scale = demodulation(weight, styles) if demodulate else None
    return bias_act(x, bias, act=act, gain=gain, clamp=clamp, scale=scale, noise=noise)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return the factor [N, C_out] that brings each modulated filter to unit length."""
    energy = styles.float().square() @ weight.float().square().sum(dim=(2, 3)).t()  # [N, C_out]
    return (energy + 1e-8).rsqrt()


def _conv(
    x: Tensor,
    w: Tensor,
    flip_weight: bool,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Tensor:
    """Correlate (`flip_weight`) or convolve."""
    if not flip_weight and w.shape[2:] != (1, 1):
        w = w.flip([2, 3])
    if w.shape[2:] == (3, 3) and padding == (1, 1) and stride == groups == 1:
        return conv3x3(x, w)
    return F.conv2d(x, w, stride=stride, padding=padding, groups=groups)


def _transposed(x: Tensor, w: Tensor, flip_weight: bool, *, up: int, groups: int) -> Tensor:
    """Insert `up - 1` zeros between pixels, then correlate (`flip_weight`) or convolve fully."""
    if flip_weight:
        w = w.flip([2, 3])
    if groups == 1:
        return F.conv_transpose2d(x, w.transpose(0, 1), stride=up)
    c_out, c_in = w.shape[:2]
    w = w.reshape(groups, c_out // groups, c_in, *w.shape[2:]).transpose(1, 2)
    w = w.reshape(groups * c_in, c_out // groups, *w.shape[3:])
    return F.conv_transpose2d(x, w, stride=up, groups=groups)
