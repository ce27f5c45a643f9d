"""Nearest rows of one set of features to those of another: radii of manifolds, copied pictures."""

from typing import NamedTuple

import torch
from torch import Tensor

from stylegan.errors import ShapeError


class Neighbours(NamedTuple):
    """The nearest rows of a bank, nearest first."""

    distance: Tensor  # [N, k] float64, Euclidean
    rows: Tensor  # [N, k] int64, which rows of the bank


def nearest(queries: Tensor, bank: Tensor, k: int, *, chunk: int = 1024) -> Neighbours:
    """Return the `k` rows of `bank` [M, D] nearest to each of `queries` [N, D].

    A row of `queries` that is also in `bank` finds itself at distance 0. Distances are in float64,
    `chunk` queries at once, so memory grows with M, not with N M.

    Raises:
        ShapeError: The widths differ, or the bank has fewer than `k` rows.
    """
    check_sets(queries, bank)
    if not 1 <= k <= len(bank):
        raise ShapeError(f"{k} neighbours among {len(bank)} rows; ask for 1 to {len(bank)}")
    parts = [
        torch.topk(torch.cdist(part, bank.double(), compute_mode=EXACT), k, largest=False)
        for part in torch.split(queries.double(), chunk)
    ]
    return Neighbours(torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts]))


EXACT = "donot_use_mm_for_euclid_dist"  # the quick form gives equal rows a distance above 0


def check_sets(a: Tensor, b: Tensor) -> None:
    """Raise ShapeError unless `a` [N, D] and `b` [M, D] are features of one width."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(
            f"features of {list(a.shape)} and {list(b.shape)}; give [N, D] and [M, D] of one space"
        )
