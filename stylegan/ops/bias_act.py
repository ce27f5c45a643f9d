"""Scale, noise, bias, activation, gain and clamp in one operator."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import ConfigError, ShapeError
from stylegan.ops import native
from stylegan.ops.build import uses_native


class Activation(NamedTuple):
    """An activation function of (x, alpha), its default slope and its variance-keeping gain."""

    func: Callable[[Tensor, float], Tensor]
    alpha: float
    gain: float


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x, _: x, 0.0, 1.0),
    "relu": Activation(lambda x, _: F.relu(x), 0.0, math.sqrt(2)),
    "lrelu": Activation(lambda x, alpha: F.leaky_relu(x, alpha), 0.2, math.sqrt(2)),
    "tanh": Activation(lambda x, _: torch.tanh(x), 0.0, 1.0),
    "sigmoid": Activation(lambda x, _: torch.sigmoid(x), 0.0, 1.0),
    "elu": Activation(lambda x, _: F.elu(x), 0.0, 1.0),
    "selu": Activation(lambda x, _: F.selu(x), 0.0, 1.0),
    "softplus": Activation(lambda x, _: F.softplus(x), 0.0, 1.0),
    "swish": Activation(lambda x, _: torch.sigmoid(x) * x, 0.0, math.sqrt(2)),
}


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    *,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Add a bias along one dimension, apply an activation, scale, and clamp.

    Pictures may be scaled per channel and given noise before, as modulated convolutions need:
    `clamp(gain * act(x * scale + noise + b))`, which is one pass over memory where a kernel runs.

    Args:
        x: Tensor of any shape.
        b: Bias [x.shape[dim]], or None.
        dim: The dimension of `x` that the bias runs along.
        act: A name of `ACTIVATIONS`.
        alpha: Slope of the leaky ReLU; None takes the activation's own (0.2).
        gain: Factor after the activation; None takes the activation's own (sqrt 2 for ReLUs).
        clamp: Bound on the magnitude of the result, or None.
        scale: Factors [N, C] of pictures `x` [N, C, H, W], or None.
        noise: Added to pictures: [N, 1, H, W], [H, W] or anything that broadcasts; or None.
        overwrite: `x` is not needed any more, and no scale is 0: a kernel may write the result in
            its place. What is overwritten is differentiable once.

    Returns:
        A tensor of the shape and dtype of `x`. Differentiable twice.

    Raises:
        ConfigError: `act` is unknown.
        ShapeError: `b` does not fit `x.shape[dim]`.
    """
    if act not in ACTIVATIONS:
        raise ConfigError(f"unknown activation '{act}'; choose from {', '.join(ACTIVATIONS)}")
    spec = ACTIVATIONS[act]
    alpha = spec.alpha if alpha is None else alpha
    gain = spec.gain if gain is None else gain
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[dim]):
        raise ShapeError(
            f"bias of shape {list(b.shape)} does not fit dimension {dim} of "
            f"{list(x.shape)}; expected [{x.shape[dim]}]"
        )
    if scale is not None and scale.shape != x.shape[:2]:
        raise ShapeError(f"scales {list(scale.shape)} do not fit pictures {list(x.shape)}")
    slope = {"linear": 1.0, "relu": 0.0, "lrelu": alpha}.get(act, -1.0)
    plain = dim == 1 and x.ndim == 4 and slope >= 0 and gain > 0
    if plain and _is_plane(noise, x) and uses_native(x):
        return native.bias_act(
            x, b, scale, noise, slope=slope, gain=gain, clamp=clamp, overwrite=overwrite
        )
    if scale is not None:
        x = x * scale.to(x.dtype)[:, :, None, None]
    if noise is not None:
        x = x + noise.to(x.dtype)
    if b is not None:
        x = x + b.to(x.dtype).reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    x = spec.func(x, alpha)
    if gain != 1.0:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def _is_plane(noise: Tensor | None, x: Tensor) -> bool:
    """Tell whether noise is one plane, or one a picture."""
    size = tuple(x.shape[2:])
    return noise is None or tuple(noise.shape) in (size, (x.shape[0], 1, *size))
