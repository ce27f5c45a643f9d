"""Teach a generator attributes that its pictures show and it does not draw, then leave them to z.

A generator may go on for long without drawing what a tenth of its pictures have, such as glasses.
It draws them once its critic's heads (`projected`) are told which attributes each picture has,
and the generator adds to w a learned direction for each: `Steering`. In the end they become part
of its mapping (`settle`): z decides the attributes, in the shares and combinations of the pictures.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan.errors import ConfigError
from stylegan.layers import MappingNetwork, normalize_2nd_moment
from stylegan.prior import Prior
from stylegan.seeding import randn, sample_z

_SAMPLES = 10_000  # latents whose w give its deviation and its mean
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


class SteeredMapping(MappingNetwork):
    """A mapping that adds to w the direction of each attribute that z decides on.

    The sizes are those of `MappingNetwork`; see `Copula` for how z decides.
    """

    axes: Tensor
    thresholds: Tensor

    def __init__(self, z_dim: int, *sizes: int, num_layers: int, steered: int) -> None:
        super().__init__(z_dim, *sizes, num_layers=num_layers)
        self.register_buffer("axes", torch.zeros(z_dim, steered))
        self.register_buffer("thresholds", torch.zeros(steered))
        self.directions = nn.Parameter(torch.zeros(steered, self.w_dim))

    def map(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """Return w [N, w_dim] of each row, before averaging, truncation and repetition."""
        w = super().map(z, c)
        if z is None:
            return w
        return w + Copula(self.axes, self.thresholds)(z).to(w) @ self.directions


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


@torch.no_grad()
def without_attributes(mapping: MappingNetwork, z: Tensor) -> Tensor:
    """Return w [N, w_dim] of latents `z` [N, z_dim], if steered as if they had no attribute."""
    if isinstance(mapping, SteeredMapping):
        return MappingNetwork.map(mapping, z, None)
    return mapping(z)[:, 0]


@torch.no_grad()
def attribute_shift(mapping: MappingNetwork, w: Tensor, mean: Tensor) -> Tensor:
    """Return what the attributes that each w has add to it, [N, w_dim]; 0 if z decides none.

    It has those along whose directions it has come further than half the way, in least squares.

    Args:
        mapping: The prior's.
        w: [N, w_dim].
        mean: [w_dim], of w without attributes; see `without_attributes`.
    """
    if not isinstance(mapping, SteeredMapping):
        return torch.zeros_like(w)
    way = (w - mean) @ torch.linalg.pinv(mapping.directions)  # [N, attributes]
    return (way > 0.5).to(w) @ mapping.directions


@torch.no_grad()
def fit_attributes(
    mapping: MappingNetwork, w: Tensor, mean: Tensor, loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return `w` [N, w_dim] with attributes given or taken where that lowers `loss`.

    One attribute after the other, each from its whole way to none of it or back, twice through.
    What is half there, as after truncation, stays so where neither is better. `w` itself if z
    decides none.

    Args:
        mapping: The prior's.
        w: [N, w_dim].
        mean: [w_dim], of w without attributes; see `without_attributes`.
        loss: w [N, w_dim] -> [N].
    """
    if not isinstance(mapping, SteeredMapping):
        return w
    directions = mapping.directions
    inverse = torch.linalg.pinv(directions)
    least = loss(w)
    for k in [*range(len(directions))] * 2:
        way = (w - mean) @ inverse[:, k]  # [N]
        other = w + ((way <= 0.5).to(w) - way)[:, None] * directions[k]
        found = loss(other)
        better = found < least
        w, least = torch.where(better[:, None], other, w), torch.where(better, found, least)
    return w


@torch.no_grad()
def settle(prior: Network, directions: Tensor, labels: Tensor, *, gen: torch.Generator) -> Network:
    """Return `prior` with the directions in its mapping, where z decides which are added.

    Args:
        prior: An unconditional StyleGAN2.
        directions: [c_dim, w_dim], of `Steering`.
        labels: [N, c_dim], 0 or 1: the attributes of the pictures.
        gen: Turns the axes, and draws the latents whose mean w becomes the average.

    Raises:
        ConfigError: As `check_labels` does, or z decides attributes of `prior` already.
    """
    check_unsteered(prior)
    axes, thresholds = fit_copula(labels, prior.z_dim, gen)
    build: Callable[[Any], Network] = type(prior)
    config: Any = prior.config
    out = build(dataclasses.replace(config, steered=len(directions))).to(directions.device)
    mine = {"axes": axes, "thresholds": thresholds, "directions": directions}
    mine = {f"mapping.{name}": value.to(directions) for name, value in mine.items()}
    out.load_state_dict(prior.state_dict() | mine)
    z = sample_z(_SAMPLES, prior.z_dim, gen).to(directions)
    out.mapping.w_avg.copy_(out.mapping.map(z, None).mean(dim=0))
    return out.eval().requires_grad_(False)


def check_unsteered(prior: Prior) -> None:
    """Refuse a generator that is steered already; raises ConfigError."""
    if getattr(prior.config, "steered", 0):
        raise ConfigError(
            "z decides attributes of this generator already; train it on without --steer"
        )
