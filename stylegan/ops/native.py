"""The kernels of csrc/ as torch operators: shapes for tracing, gradients of first and second order.

Under `create_graph` a gradient is written in plain torch, so that it can be differentiated again;
without it one pass of the kernel gives all of it.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_TAPS = 64  # of a filter, along each axis
TILES = {(2, 12, 2, 12), (4, 24, 2, 12)}  # (up, taps, down, taps) of filtered_lrelu on a GPU


def bias_act(
    x: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    noise: Tensor | None,
    *,
    slope: float,
    gain: float,
    clamp: float | None,
    overwrite: bool = False,
) -> Tensor:
    """Return clamp(gain * lrelu(x * scale + noise + bias)) in one pass.

    Args:
        x: [N, C, H, W].
        bias: [C], or None.
        scale: [N, C], or None.
        noise: [N, 1, H, W] or [H, W], or None.
        slope: Of the leaky ReLU; 1 is the identity.
        gain: Factor after it.
        clamp: Bound on the magnitude, or None.
        overwrite: Write into `x` where that can be done: on a CPU, and not where torch forbids it.
    """
    bound = -1.0 if clamp is None else representable(clamp, x.dtype)
    args = (x, bias, scale, noise, slope, gain, bound)
    if overwrite and x.device.type == "cpu" and _layout(x) == torch.channels_last:
        if not _learns(x, bias, scale, noise):
            torch.ops.fewshot_smis.bias_act_(*args)
            return x
        if not x._is_view() and not (x.is_leaf and x.requires_grad):
            return _Overwritten.apply(*args)  # type: ignore[no-untyped-call]
    return torch.ops.fewshot_smis.bias_act(*args)


class _Overwritten(torch.autograd.Function):
    """The same in the place of `x`: the result alone tells the gradients, once (`bias_act_undone`).

    So a layer keeps one picture for its gradient, which the next one keeps anyway. The idea is that
    of in-place activated batch normalisation (Rota Bulo et al. 2018).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *args: Any) -> Tensor:
        torch.ops.fewshot_smis.bias_act_(x, *args)
        ctx.mark_dirty(x)
        *factors, ctx.slope, ctx.gain, ctx.clamp = args
        ctx.save_for_backward(x, *factors)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        y, bias, scale, noise = ctx.saved_tensors
        found = torch.ops.fewshot_smis.bias_act_undone(
            dy, y, bias, scale, noise, ctx.needs_input_grad[3], ctx.slope, ctx.gain, ctx.clamp
        )
        return _wanted(ctx, found, bias, scale, noise)


def _learns(*leaves: Tensor | None) -> bool:
    """Tell whether a gradient will be wanted."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in leaves)


@functools.cache
def representable(value: float, dtype: torch.dtype) -> float:
    """Return `value` as `dtype` holds it, so that a clamped result is known by its value."""
    return float(torch.tensor(value, dtype=dtype))


representable._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as build.is_native


def takes_filter(f: Tensor) -> bool:
    """Tell whether the kernels take the filter: short enough, and not learned."""
    return max(f.shape) <= MAX_TAPS and not f.requires_grad


def upfirdn2d(
    x: Tensor,
    f: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """Resample `x` [N, C, H, W] by taps `f` [n] or [h, w]; see `stylegan.ops.upfirdn2d`."""
    return torch.ops.fewshot_smis.upfirdn2d(x, f, *up, *down, *padding, flip_filter, gain)


def takes_filtered_lrelu(
    x: Tensor, bias: Tensor | None, filters: tuple[Tensor, Tensor], up: int, down: int
) -> bool:
    """Tell whether `filtered_lrelu` takes the filters (up, down).

    On a GPU these are StyleGAN3's; the radial ones on the way down only where nothing learns.
    """
    rise, fall = filters
    if x.device.type == "cpu" or not all(map(takes_filter, filters)):
        return all(map(takes_filter, filters))
    shaped = rise.ndim == 1 and len(fall) == fall.shape[-1]
    return (
        shaped
        and (up, len(rise), down, len(fall)) in TILES
        and (fall.ndim == 1 or not _learns(x, bias))
    )


def filtered_lrelu(
    x: Tensor,
    bias: Tensor | None,
    filters: tuple[Tensor, Tensor],
    *,
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
    gain: float,
    slope: float,
    clamp: float | None,
) -> Tensor:
    """Do `stylegan.ops.filtered_lrelu` with `filters` (up, down) row by row."""
    bound = -1.0 if clamp is None else representable(clamp, x.dtype)
    y, _ = torch.ops.fewshot_smis.filtered_lrelu(
        x, bias, *filters, up, down, *padding, gain, slope, bound, _learns(x, bias)
    )
    return y


@functools.cache
def register() -> None:
    """Tell torch the shapes and gradients of the loaded kernels."""
    library = torch.library
    library.register_fake("fewshot_smis::bias_act", _fake_bias_act)
    library.register_fake("fewshot_smis::bias_act_", lambda *_: None)
    library.register_fake("fewshot_smis::spread_tiles", _fake_spread_tiles)
    library.register_fake("fewshot_smis::gather_tiles", lambda *_: None)
    library.register_fake("fewshot_smis::bias_act_backward", _fake_bias_act_backward)
    library.register_fake("fewshot_smis::upfirdn2d", _fake_upfirdn2d)
    library.register_autograd(
        "fewshot_smis::bias_act", _bias_act_backward, setup_context=_keep_bias_act
    )
    library.register_autograd(
        "fewshot_smis::upfirdn2d", _upfirdn2d_backward, setup_context=_keep_upfirdn2d
    )
    library.register_fake("fewshot_smis::filtered_lrelu", _fake_filtered_lrelu)
    library.register_fake("fewshot_smis::filtered_slopes", _fake_filtered_slopes)
    library.register_autograd(
        "fewshot_smis::filtered_lrelu", _filtered_lrelu_backward, setup_context=_keep_filtered_lrelu
    )
    library.register_autograd(
        "fewshot_smis::filtered_slopes", _filtered_slopes_backward, setup_context=_keep_slopes
    )


def _layout(x: Tensor) -> torch.memory_format:
    """Return the layout the kernels give their result for `x`."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _wide(x: Tensor) -> Tensor:
    """Return `x` in the type its sums have."""
    return x if x.dtype == torch.float64 else x.float()


def _fake_bias_act(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=_layout(x))


def _fake_bias_act_backward(
    dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, want_noise: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, c, h, w = y.shape
    like = _wide(y)
    dscale = like.new_empty((n, c) if x is not None else (0,))
    dnoise = like.new_empty((n, h * w) if want_noise else (0,))
    return torch.empty_like(y, memory_format=_layout(y)), like.new_empty(c), dscale, dnoise


def _fake_upfirdn2d(x: Tensor, f: Tensor, *args: Any) -> Tensor:
    up_x, up_y, down_x, down_y, left, right, top, bottom, *_ = args
    n, c, h, w = x.shape
    height = (h * up_y + top + bottom - f.shape[0]) // down_y + 1
    width = (w * up_x + left + right - f.shape[-1]) // down_x + 1
    return x.new_empty(n, c, height, width).contiguous(memory_format=_layout(x))


def _fake_spread_tiles(x: Tensor, size: int, first: int, rows: int) -> Tensor:
    return x.new_empty(36, len(x) * rows * (x.shape[3] // 4), x.shape[1])


def _keep_bias_act(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, scale, noise, ctx.slope, ctx.gain, ctx.clamp = inputs
    linear = ctx.slope == 1 and ctx.clamp < 0  # of one slope everywhere, so that x will do for y
    kept = x if scale is not None and linear else output
    ctx.save_for_backward(x if scale is not None else None, bias, scale, noise, kept)


def _bias_act_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, bias, scale, noise, y = ctx.saved_tensors
    _, _, want_scale, want_noise, *_ = ctx.needs_input_grad
    if torch.is_grad_enabled():
        slope = torch.where(y > 0, ctx.gain, ctx.gain * ctx.slope)
        if ctx.clamp >= 0:
            slope = torch.where(y.abs() < ctx.clamp, slope, 0)
        g = dy * slope.to(dy.dtype)
        dx = g if scale is None else g * scale.to(g.dtype)[:, :, None, None]
        dbias = _wide(g).sum(dim=(0, 2, 3))
        dscale = _wide(g * x).sum(dim=(2, 3)) if want_scale else None
        found = (dx, dbias, dscale, _wide(g).sum(dim=1, keepdim=True))
    else:
        found = torch.ops.fewshot_smis.bias_act_backward(
            dy, y, x, scale, want_noise, ctx.slope, ctx.gain, ctx.clamp
        )
    return _wanted(ctx, found, bias, scale, noise)


def _wanted(
    ctx: Any,
    found: tuple[Tensor, Tensor, Tensor | None, Tensor],
    bias: Tensor | None,
    scale: Tensor | None,
    noise: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Return the gradients that were `found` and are needed, each in the form of its input."""
    dx, dbias, dscale, dnoise = found
    _, want_bias, want_scale, want_noise, *_ = ctx.needs_input_grad
    return (
        dx,
        dbias.to(bias.dtype) if bias is not None and want_bias else None,
        dscale.to(scale.dtype) if dscale is not None and scale is not None and want_scale else None,
        _noise_like(dnoise, noise) if noise is not None and want_noise else None,
        *[None] * 3,
    )


def _noise_like(gradient: Tensor, noise: Tensor) -> Tensor:
    """Bring the gradient of one plane a picture to the shape of the noise."""
    planes = gradient.reshape(gradient.shape[0], *noise.shape[-2:])
    return (planes.sum(dim=0) if noise.ndim == 2 else planes[:, None]).to(noise.dtype)


def _keep_upfirdn2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, f, *ctx.args = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(f)


def _upfirdn2d_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Swap up and down, flip the filter, and pad to the size that came in."""
    (f,) = ctx.saved_tensors
    up_x, up_y, down_x, down_y, *around, flip, gain = ctx.args
    padding = _transposed_padding(f, ctx.size, dy.shape[2:], (up_x, up_y), (down_x, down_y), around)
    dx = upfirdn2d(dy, f, (down_x, down_y), (up_x, up_y), padding, not flip, gain)
    return (dx, *[None] * 11)


def _transposed_padding(
    f: Tensor,
    size: Sequence[int],
    out_size: Sequence[int],
    up: tuple[int, int],
    down: tuple[int, int],
    padding: Sequence[int],
) -> tuple[int, int, int, int]:
    """Return the padding with which the transposed resampling goes from `out_size` to `size`."""
    (height, width), (out_height, out_width), (left, _, top, _) = size, out_size, padding
    return (
        f.shape[-1] - left - 1,
        width * up[0] - out_width * down[0] + left - up[0] + 1,
        f.shape[0] - top - 1,
        height * up[1] - out_height * down[1] + top - up[1] + 1,
    )


def _fake_filtered_lrelu(
    x: Tensor, bias: Tensor | None, up_filter: Tensor, down_filter: Tensor, *args: Any
) -> tuple[Tensor, Tensor]:
    up, down, left, right, top, bottom, *_, want_slopes = args
    high = _fake_upfirdn2d(x, up_filter, up, up, 1, 1, left, right, top, bottom)
    y = _fake_upfirdn2d(high, down_filter, 1, 1, down, down, 0, 0, 0, 0)
    return y, (high if want_slopes else x.new_empty(0)).to(torch.uint8)


def _fake_filtered_slopes(
    x: Tensor, slopes: Tensor, up_filter: Tensor, down_filter: Tensor, *args: Any
) -> Tensor:
    up, down, left, right, top, bottom, *inner = args
    high = _fake_upfirdn2d(x, up_filter, up, up, 1, 1, left, right, top, bottom)
    return _fake_upfirdn2d(high, down_filter, 1, 1, down, down, *inner[:4])


def _keep_filtered_lrelu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, bias, up_filter, down_filter, up, down, *padding, gain, slope, _, _ = inputs
    ctx.args = (up, down, tuple(padding), (0,) * 4, False, gain, slope)
    ctx.size = x.shape[2:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], up_filter, down_filter, bias)


def _filtered_lrelu_backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    slopes, up_filter, down_filter, bias = ctx.saved_tensors
    dx = _transposed(dy, slopes, (up_filter, down_filter), ctx.size, ctx.args)
    dbias = _wide(dx).sum(dim=(0, 2, 3)).to(bias.dtype) if ctx.needs_input_grad[1] else None
    return (dx, dbias, *[None] * 12)


def _keep_slopes(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, slopes, up_filter, down_filter, up, down, *around, flip, gain, slope = inputs
    ctx.args = (up, down, tuple(around[:4]), tuple(around[4:]), flip, gain, slope)
    ctx.size = x.shape[2:]
    ctx.save_for_backward(slopes, up_filter, down_filter)


def _filtered_slopes_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    slopes, *filters = ctx.saved_tensors
    return (_transposed(dy, slopes, filters, ctx.size, ctx.args), *[None] * 16)


def _transposed(
    dy: Tensor, slopes: Tensor, filters: Sequence[Tensor], size: Sequence[int], args: Any
) -> Tensor:
    """Go the way back: spread by the second filter, take the slopes, gather by the first."""
    up_filter, down_filter = filters
    up, down, padding, inner, flip, gain, slope = args
    high = slopes.shape[2:]
    outer = _transposed_padding(down_filter, high, dy.shape[2:], (1, 1), (down, down), inner)
    inner = _transposed_padding(up_filter, size, high, (up, up), (1, 1), padding)
    gain *= up**2 / down**2  # the operator makes up for its own upsampling
    return torch.ops.fewshot_smis.filtered_slopes(
        dy, slopes, down_filter, up_filter, down, up, *outer, *inner, not flip, gain, slope
    )
