"""Terms of the training and inversion losses, each a plain function."""

import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import ShapeError


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared difference [N] of each pair in `a` and `b`, both [N,...]."""
    _check_same(a, b)
    return (a - b).square().flatten(1).mean(dim=1)


def latent_mse(ws: Tensor, target: Tensor) -> Tensor:
    """Return the scalar mean squared error between codes `ws` and `target`, both [N,L,D].

    This is the loss of the mask encoder: no picture is compared.
    """
    _check_same(ws, target)
    return F.mse_loss(ws, target)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - cosine over the channels of `a` and `b` [N,C,...], as [N,...] in [0, 2]."""
    _check_same(a, b)
    return 1 - F.cosine_similarity(a, b, dim=1)


def _check_same(a: Tensor, b: Tensor) -> None:
    """Refuse shapes that would broadcast into a loss that compares something else."""
    if a.shape != b.shape:
        raise ShapeError(f"loss: shapes {list(a.shape)} and {list(b.shape)} differ")
