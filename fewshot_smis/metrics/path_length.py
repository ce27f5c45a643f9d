"""Perceptual path length: how evenly a picture changes along a path between two latents."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_smis.perceptual import PerceptualDistance
from stylegan import Prior
from stylegan.errors import DataError

EPSILON = 1e-4
MAX_SIZE = 256


class Ends(NamedTuple):
    """The two latents each path joins."""

    z0: Tensor  # [N, z_dim]
    z1: Tensor  # [N, z_dim]
    c: Tensor | None = None  # [N, c_dim], the same along the whole path


def along_z(prior: Prior, ends: Ends, t: Tensor) -> Tensor:
    """Return ws [N, L, D] at `t` [N] of the great circles between the ends."""
    return prior.mapping(slerp(ends.z0, ends.z1, t[:, None]), ends.c)


def along_w(prior: Prior, ends: Ends, t: Tensor) -> Tensor:
    """Return ws [N, L, D] at `t` [N] of the straight lines between the ends' styles."""
    start, end = prior.mapping(ends.z0, ends.c), prior.mapping(ends.z1, ends.c)
    return start + t[:, None, None] * (end - start)


PATHS: dict[str, Callable[[Prior, Ends, Tensor], Tensor]] = {"z": along_z, "w": along_w}


@torch.no_grad()
def path_lengths(
    prior: Prior,
    distance: PerceptualDistance,
    along: Callable[[Prior, Ends, Tensor], Tensor],
    ends: Ends,
    t: Tensor,
    *,
    epsilon: float = EPSILON,
) -> Tensor:
    """Return `d(G(path(t)), G(path(t + epsilon))) / epsilon^2` [N] (Karras et al. 2019, 4.1).

    `d` is `distance`, named with every result; pictures above 256 px are reduced to that, as in
    the paper. The network's stored noise stays the same along a path. Nothing is truncated.

    Args:
        prior: The generator.
        distance: A perceptual distance, quadratic in small differences.
        along: The path: `along_z` or `along_w`.
        ends: What it joins.
        t: Positions [N]: drawn from U(0, 1) for the full path, 0 for its end.
        epsilon: The step; the paper's is 1e-4.
    """
    # TF32 rounds to 1e-3, ten times the step; convolutions use it on CUDA unless told otherwise
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        a, b = (_reduced(prior.synthesis(along(prior, ends, s)).img) for s in (t, t + epsilon))
        return distance(a, b) / epsilon**2


def trimmed_mean(lengths: Tensor) -> float:
    """Return the mean of `lengths` [N] between the 1st and the 99th percentile, both included."""
    if len(lengths) == 0:
        raise DataError("no path lengths to average; draw at least one path")
    lengths = lengths.double().sort().values
    last = len(lengths) - 1
    low, high = int(0.01 * last), -int(-0.99 * last // 1)
    return float(lengths[low : high + 1].mean())


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Interpolate directions of `a` and `b` [N, D] on the great circle, and their norms linearly.

    `t` [N, 1] is 0 at `a` and 1 at `b`.
    """
    norm_a, norm_b = (x.norm(dim=1, keepdim=True) for x in (a, b))
    a, b = a / norm_a, b / norm_b
    cosine = (a * b).sum(dim=1, keepdim=True).clamp(-1, 1)
    across = torch.nn.functional.normalize(b - cosine * a, dim=1)
    angle = t * cosine.acos()
    return (norm_a + t * (norm_b - norm_a)) * (a * angle.cos() + across * angle.sin())


def _reduced(img: Tensor) -> Tensor:
    """Average pictures above 256 px down to that, by a whole factor."""
    factor = max(img.shape[2:]) // MAX_SIZE
    return torch.nn.functional.avg_pool2d(img, factor) if factor > 1 else img
