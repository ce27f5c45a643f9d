"""Fidelity and diversity apart: precision and recall, density and coverage.

The manifold of a set is the union of balls around its rows, each reaching to the k-th nearest
other row of the set.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_smis.metrics.neighbours import EXACT, check_sets, nearest
from stylegan.errors import ShapeError


class PrecisionRecall(NamedTuple):
    """How far two manifolds overlap; each share in [0, 1]."""

    precision: float  # share of the samples inside the manifold of the real pictures
    recall: float  # share of the real pictures inside the manifold of the samples


class DensityCoverage(NamedTuple):
    """Precision and recall that a few outliers do not upset."""

    density: float  # real balls a sample lies in, over k; 1 for equal distributions, may exceed 1
    coverage: float  # share of the real balls that hold a sample


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Return improved precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2).

    Args:
        real: Features [N, D] of real pictures, N above `k`.
        fake: Features [M, D] of samples, M above `k`; the paper takes 50,000 of each.
        k: Which neighbour's distance is the radius of a ball; the paper's is 3.

    Raises:
        ShapeError: The widths differ, or a set has no more than `k` rows.
    """
    in_real = _balls_around(real, fake, radii(real, k)) > 0
    in_fake = _balls_around(fake, real, radii(fake, k)) > 0
    return PrecisionRecall(float(in_real.double().mean()), float(in_fake.double().mean()))


def density_coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> DensityCoverage:
    """Return density and coverage (Naeem et al. 2020, equations 4 and 5); arguments as above."""
    radius = radii(real, k)
    density = _balls_around(real, fake, radius).double().mean() / k
    to_fake = nearest(real, fake, 1).distance[:, 0]
    return DensityCoverage(float(density), float((to_fake <= radius).double().mean()))


def radii(features: Tensor, k: int) -> Tensor:
    """Return the distance [N] of each of `features` [N, D] to its k-th nearest other row."""
    if features.ndim == 2 and len(features) <= k:
        raise ShapeError(f"{len(features)} rows have no {k}-th neighbours; give more than {k}")
    return nearest(features, features, k + 1).distance[:, k]  # the nearest is the row itself


def _balls_around(centres: Tensor, points: Tensor, radius: Tensor, chunk: int = 1024) -> Tensor:
    """Count, for each of `points` [M, D], the balls of `centres` [N, D] it lies in, [M]."""
    check_sets(centres, points)
    centres = centres.double()
    parts = torch.split(points.double(), chunk)
    return torch.cat(
        [(torch.cdist(p, centres, compute_mode=EXACT) <= radius).sum(dim=1) for p in parts]
    )
