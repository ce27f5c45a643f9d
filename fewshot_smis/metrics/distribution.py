"""How far two sets of pictures are apart, as distributions of features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import ShapeError
from stylegan.lite0 import Lite0

LITE0_SIZE = 128


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
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ShapeError(
            f"features of {list(a.shape)} and {list(b.shape)}; give [N, D] and [M, D], at least "
            "two rows each"
        )
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


@torch.no_grad()
def lite0_features(images: Tensor, backbone: Lite0, *, batch: int = 32) -> Tensor:
    """Return one feature vector [N, 320] a picture: lite0's last map, averaged over space.

    `images` [N, 3, H, W] in [-1, 1] are brought to 128 px bilinearly (antialiased).
    """
    size = (LITE0_SIZE, LITE0_SIZE)
    rows = []
    for part in torch.split(images, batch):
        big = F.interpolate(part, size=size, mode="bilinear", antialias=True)
        rows.append(backbone.features(big)[-1].mean(dim=(2, 3)))
    return torch.cat(rows)
