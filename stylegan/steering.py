"""Teach a generator attributes that its pictures show and it does not draw, then leave them to z.

A generator may go on for long without drawing what a tenth of its pictures have, such as glasses.
It draws them once its critic's heads (`projected`) are told which attributes each picture has,
and the generator adds to w a learned direction for each: `Steering`. It stays an ordinary
unconditional StyleGAN2 meanwhile. In the end `fit_mapping` teaches its mapping network to add the
directions by itself: z decides the attributes, in the shares and combinations of the pictures.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan.errors import ConfigError
from stylegan.layers import MappingNetwork, normalize_2nd_moment
from stylegan.prior import Prior
from stylegan.seeding import randn, sample_z

_SAMPLES = 10_000  # latents whose w give its deviation and its mean
_RATE = 0.15  # of Adam, high as parameters are stored divided by a learning rate multiplier of 0.01
_QUADRATURE = 48  # nodes
_BISECTIONS = 40

Network = TypeVar("Network", bound=Prior)


class Steering(nn.Module):
    """Conditions c [N, c_dim] -> what they add to w [N, w_dim]: a direction each.

    The directions begin at random, drawn by `gen`, with the deviation of w.
    """

    def __init__(self, mapping: MappingNetwork, c_dim: int, gen: torch.Generator) -> None:
        super().__init__()
        deviation = _deviation(mapping, gen)
        directions = randn((c_dim, mapping.w_dim), gen).to(deviation) * deviation
        self.directions = nn.Parameter(directions)

    def forward(self, c: Tensor) -> Tensor:
        """Return the sum of the directions of `c`."""
        return c @ self.directions


@torch.no_grad()
def _deviation(mapping: MappingNetwork, gen: torch.Generator) -> Tensor:
    """Return the standard deviation of w [w_dim]."""
    z = sample_z(_SAMPLES, mapping.z_dim, gen).to(mapping.w_avg.device)
    return mapping.map(z, None).std(dim=0)


class Copula(NamedTuple):
    """Attributes decided by z: attribute k is there where z reaches far enough along axis k."""

    axes: Tensor  # [z_dim, c_dim], unit columns
    thresholds: Tensor  # [c_dim]

    def __call__(self, z: Tensor) -> Tensor:
        """Return the attributes [N, c_dim], 0 or 1, of latents `z` [N, z_dim]."""
        return (normalize_2nd_moment(z) @ self.axes > self.thresholds).to(z.dtype)


def fit_copula(labels: Tensor, z_dim: int, gen: torch.Generator) -> Copula:
    """Return what decides attributes as often, and as often together, as `labels` have them.

    The cosines of two axes are the correlation of the normal variables behind two columns of
    `labels`. Pairs are matched, not larger sets, and where no axes have all the cosines (of many
    columns that exclude each other, or of an attribute beside kinds of it) only nearly.

    Args:
        labels: [N, c_dim], 0 or 1.
        z_dim: Width of the latents; their axes are nearly normal where it is not small.
        gen: Turns the axes.

    Raises:
        ConfigError: As `check_labels` does.
    """
    check_labels(labels, z_dim)
    values, vectors = torch.linalg.eigh(tetrachoric(labels))
    factor = F.normalize(vectors * values.clamp(min=0).sqrt(), dim=1)  # rows: the axes
    basis = torch.linalg.qr(randn((z_dim, len(factor)), gen).to(factor))[0]
    share = labels.to(factor).mean(dim=0)
    return Copula((basis @ factor.t()).float(), torch.special.ndtri(1 - share).float())


def check_labels(labels: Tensor, z_dim: int) -> None:
    """Refuse labels [N, c_dim] that no latents could decide.

    Raises:
        ConfigError: Values other than 0 and 1, a column of only one of them, or more columns
            than latents have dimensions.
    """
    if not torch.isin(labels, torch.tensor([0, 1]).to(labels)).all():
        raise ConfigError("attributes to steer by are 0 or 1 for each picture; these are not")
    share = labels.float().mean(dim=0)
    for k in range(labels.shape[1]):
        if share[k] in (0, 1):
            count = "every" if share[k] else "no"
            raise ConfigError(f"{count} picture has attribute {k}; leave it out")
    if labels.shape[1] > z_dim:
        raise ConfigError(
            f"{labels.shape[1]} attributes cannot be decided by z of width {z_dim}; "
            "give fewer, or a generator with a wider z"
        )


def tetrachoric(labels: Tensor) -> Tensor:
    """Return the correlations [K, K], float64, of the normal variables behind `labels` [N, K].

    A column is where such a variable exceeds a threshold (Pearson 1900). Half a picture has each
    combination that none has, so that no correlation is more certain than so many pictures tell.
    """
    x = labels.double()
    half, share = 0.5 / len(x), x.mean(dim=0)
    fewest = (share[:, None] + share - 1).clamp(min=0) + half
    most = torch.minimum(share[:, None], share) - half
    both = (x.t() @ x / len(x)).clamp(fewest, most)
    threshold = torch.special.ndtri(1 - share)
    low, high = -torch.ones_like(both), torch.ones_like(both)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = share_beyond(threshold[:, None], threshold, middle) > both
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return ((low + high) / 2).fill_diagonal_(1)


def share_beyond(h: Tensor, k: Tensor, correlation: Tensor) -> Tensor:
    """Return P(X > h, Y > k) of standard normal X and Y; arguments broadcast, float64.

    Its derivative by the correlation is the density at (h, k) (Plackett 1954), integrated here
    over the angle whose sine the correlation is.
    """
    rule = np.polynomial.legendre.leggauss(_QUADRATURE)
    nodes, weights = (torch.from_numpy(part).to(h) for part in rule)
    angle = torch.asin(correlation)[..., None]
    theta = angle * (nodes + 1) / 2
    h, k = h[..., None], k[..., None]
    power = (h.square() + k.square() - 2 * h * k * theta.sin()) / (2 * theta.cos().square())
    added = ((-power).exp() * weights * angle).sum(dim=-1) / (4 * torch.pi)
    return torch.special.ndtr(-h[..., 0]) * torch.special.ndtr(-k[..., 0]) + added


def fit_mapping(
    prior: Network,
    directions: Tensor,
    labels: Tensor,
    *,
    gen: torch.Generator,
    steps: int = 20_000,
    batch: int = 512,
    on_report: Callable[[float], object] | None = None,
) -> Network:
    """Return a copy of `prior` whose z decides the attributes that `directions` steer to.

    Its mapping gives what the old one does plus the directions of the attributes that a copula
    of `labels` sees in z; its average is the mean of that.

    Args:
        prior: An unconditional generator.
        directions: [c_dim, w_dim], of `Steering`.
        labels: [N, c_dim], 0 or 1: the attributes of the pictures.
        gen: Draws axes and latents.
        steps: Steps of Adam.
        batch: Latents a step.
        on_report: Called after each step with the mean squared error in deviations of w.

    Raises:
        ConfigError: As `check_labels` does.
        ShapeError: The generator is conditional.
    """
    given, directions = prior.mapping, directions.detach()
    axes, thresholds = fit_copula(labels, prior.z_dim, gen)
    conditions = Copula(axes.to(directions), thresholds.to(directions))
    deviation = _deviation(given, gen)
    fitted = copy.deepcopy(prior)
    mapping = fitted.mapping.requires_grad_(True)
    optimizer = torch.optim.Adam(mapping.parameters(), lr=_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for _ in range(steps):
        z = sample_z(batch, prior.z_dim, gen).to(directions)
        with torch.no_grad():
            w = given.map(z, None) + conditions(z) @ directions
        loss = ((mapping.map(z, None) - w) / deviation).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if on_report is not None:
            on_report(loss.item())
    mapping.requires_grad_(False)
    z = sample_z(_SAMPLES, prior.z_dim, gen).to(directions)
    mapping.w_avg.copy_(mapping.map(z, None).mean(dim=0))
    return fitted
