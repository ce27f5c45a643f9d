"""How far two sets of pictures are apart, as distributions of features."""

from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_smis.metrics.neighbours import check_sets
from stylegan.errors import ShapeError


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Return the Frechet distance between Gaussians fitted to two sets of features.

    `|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))` with A and B the covariances (Heusel et al.
    2017, equation 6). Its value depends on the feature network, its weights and the resize
    filter: quote them with it.

    Args:
        a: Features [N, D] of the first set, N at least 2.
        b: Features [M, D] of the second.

    Raises:
        ShapeError: The widths differ, or a set has fewer than two rows.
    """
    check_sets(a, b)
    if min(len(a), len(b)) < 2:
        raise ShapeError(f"{len(a)} and {len(b)} rows of features; give at least two rows each")
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.t()), torch.cov(b.t())
    root = _sqrt_psd(cov_a)
    # tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2), whose argument is symmetric
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    gap = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return float(gap + cov_a.trace() + cov_b.trace() - 2 * cross)


def _sqrt_psd(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.t()


class KernelDistance(NamedTuple):
    """An unbiased estimate, which may be below 0, and its standard error."""

    value: float
    error: float


def kernel_distance(a: Tensor, b: Tensor, gen: torch.Generator, *, block: int) -> KernelDistance:
    """Return the kernel distance of two sets of features (KID, Binkowski et al. 2018).

    It is the squared maximum mean discrepancy under `k(x, y) = (x.y / D + 1)^3`, estimated without
    bias on disjoint blocks of both sets: the mean over the blocks, and its standard error. As with
    the Frechet distance, quote the feature space with it; the scale is the space's own.

    Args:
        a: Features [N, D] of the first set.
        b: Features [M, D] of the second.
        gen: Shuffles the rows into blocks; on the CPU.
        block: Rows of each set in a block; at least 2, and at most half of either set.

    Raises:
        ShapeError: The widths differ, or the sets hold fewer than two blocks.
    """
    check_sets(a, b)
    blocks = min(len(a), len(b)) // max(block, 1)
    if block < 2 or blocks < 2:
        raise ShapeError(
            f"{len(a)} and {len(b)} rows in blocks of {block}; blocks hold at least 2 rows, and "
            "there are at least two of them"
        )
    parts = []
    for features in (a, b):
        rows = torch.randperm(len(features), generator=gen)[: blocks * block].to(features.device)
        parts.append(features[rows].double().view(blocks, block, -1))
    values = torch.stack([_unbiased_mmd(x, y) for x, y in zip(*parts, strict=True)])
    return KernelDistance(float(values.mean()), float(values.std() / blocks**0.5))


def _unbiased_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared discrepancy of `x` and `y`, both [m, D] (equation 4)."""
    m = len(x)
    kernels = _kernel(x, x) + _kernel(y, y)
    within = (kernels.sum() - kernels.trace()) / (m * (m - 1))  # no row with itself
    return within - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.t() / x.shape[1] + 1) ** 3
