"""The kernels of csrc/ as torch operators: shapes for tracing, gradients of first and second order.

Under `create_graph` a gradient is written in plain torch, so that it can be differentiated again;
without it one pass of the kernel gives all of it.
"""

import functools
from typing import Any

import torch
from torch import Tensor


def bias_act(
    x: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    noise: Tensor | None,
    *,
    slope: float,
    gain: float,
    clamp: float | None,
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
    """
    bound = -1.0 if clamp is None else clamp
    return torch.ops.fewshot_smis.bias_act(x, bias, scale, noise, slope, gain, bound)


def upfirdn2d(
    x: Tensor,
    taps: tuple[Tensor, Tensor],
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
) -> Tensor:
    """Resample `x` [N, C, H, W] by separable `taps` (x, y); see `stylegan.ops.upfirdn2d`."""
    return torch.ops.fewshot_smis.upfirdn2d(x, *taps, *up, *down, *padding, flip_filter)


@functools.cache
def register() -> None:
    """Tell torch the shapes and gradients of the loaded kernels."""
    library = torch.library
    library.register_fake("fewshot_smis::bias_act", _fake_bias_act)
    library.register_fake("fewshot_smis::bias_act_backward", _fake_bias_act_backward)
    library.register_fake("fewshot_smis::upfirdn2d", _fake_upfirdn2d)
    library.register_autograd(
        "fewshot_smis::bias_act", _bias_act_backward, setup_context=_keep_bias_act
    )
    library.register_autograd(
        "fewshot_smis::upfirdn2d", _upfirdn2d_backward, setup_context=_keep_upfirdn2d
    )


def _fake_bias_act(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _fake_bias_act_backward(
    dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, want_noise: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, c = y.shape[:2]
    like = y.float()
    dscale = like.new_empty((n, c) if x is not None else (0,))
    dnoise = like.new_empty((n, y[0, 0].numel()) if want_noise else (0,))
    return torch.empty_like(y), like.new_empty(c), dscale, dnoise


def _fake_upfirdn2d(x: Tensor, fx: Tensor, fy: Tensor, *args: Any) -> Tensor:
    up_x, up_y, down_x, down_y, left, right, top, bottom, _ = args
    n, c, h, w = x.shape
    height = (h * up_y + top + bottom - fy.numel()) // down_y + 1
    width = (w * up_x + left + right - fx.numel()) // down_x + 1
    return x.new_empty(n, c, height, width)


def _keep_bias_act(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, scale, noise, ctx.slope, ctx.gain, ctx.clamp = inputs
    ctx.save_for_backward(x if scale is not None else None, bias, scale, noise, output)


def _bias_act_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, bias, scale, noise, y = ctx.saved_tensors
    _, want_bias, want_scale, want_noise, *_ = ctx.needs_input_grad
    if torch.is_grad_enabled():
        slope = torch.where(y > 0, ctx.gain, ctx.gain * ctx.slope)
        if ctx.clamp >= 0:
            slope = torch.where(y.abs() < ctx.clamp, slope, 0)
        g = dy * slope.to(dy.dtype)
        dx = g if scale is None else g * scale.to(g.dtype)[:, :, None, None]
        dbias = g.float().sum(dim=(0, 2, 3))
        dscale = (g * x).float().sum(dim=(2, 3)) if want_scale else None
        dnoise = g.float().sum(dim=1, keepdim=True)
    else:
        dx, dbias, dscale, dnoise = torch.ops.fewshot_smis.bias_act_backward(
            dy, y, x, scale, want_noise, ctx.slope, ctx.gain, ctx.clamp
        )
    return (
        dx,
        dbias.to(bias.dtype) if want_bias else None,
        dscale.to(scale.dtype) if want_scale and dscale is not None else None,
        _noise_like(dnoise, noise) if want_noise else None,
        *[None] * 3,
    )


def _noise_like(gradient: Tensor, noise: Tensor) -> Tensor:
    """Bring the gradient of one plane a picture to the shape of the noise."""
    planes = gradient.reshape(-1, *noise.shape[-2:])
    return (planes.sum(dim=0) if noise.ndim == 2 else planes[:, None]).to(noise.dtype)


def _keep_upfirdn2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, fx, fy, *ctx.args = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(fx, fy)


def _upfirdn2d_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Swap up and down, flip the filter, and pad to the size that came in."""
    fx, fy = ctx.saved_tensors
    up_x, up_y, down_x, down_y, left, _, top, _, flip = ctx.args
    height, width = ctx.size
    out_height, out_width = dy.shape[2:]
    padding = (
        fx.numel() - left - 1,
        width * up_x - out_width * down_x + left - up_x + 1,
        fy.numel() - top - 1,
        height * up_y - out_height * down_y + top - up_y + 1,
    )
    dx = upfirdn2d(dy, (fx, fy), (down_x, down_y), (up_x, up_y), padding, not flip)
    return (dx, *[None] * 11)
