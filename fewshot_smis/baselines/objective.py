"""The adversarial and reconstruction terms of pix2pix and pix2pixHD, each a plain function.

The adversarial losses say how far `scores`, of any shape, are from what the discriminator should
give for real pictures, or for drawn ones. The discriminator minimises both, the generator the
loss of its own pictures taken for real ones.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import ShapeError

Maps = Sequence[Tensor]
"""What one discriminator saw in a picture, layer by layer; its scores are the last."""


def logistic(scores: Tensor, *, real: bool) -> Tensor:
    """Return the mean cross entropy of `scores`, taken as logits: the GAN of pix2pix."""
    return F.softplus(-scores if real else scores).mean()


def least_squares(scores: Tensor, *, real: bool) -> Tensor:
    """Return the mean squared distance of `scores` to 1 for real pictures, to 0 for others."""
    return (scores - float(real)).square().mean()


def wasserstein(scores: Tensor, *, real: bool) -> Tensor:
    """Return the mean of `scores`, negative for real pictures."""
    return -scores.mean() if real else scores.mean()


ADVERSARIAL: dict[str, Callable[..., Tensor]] = {
    "logistic": logistic,
    "least_squares": least_squares,
    "wasserstein": wasserstein,
}


def l1(img: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of `img` and `target`, of one shape."""
    if img.shape != target.shape:
        raise ShapeError(f"L1: shapes {list(img.shape)} and {list(target.shape)} differ")
    return (img - target).abs().mean()


def feature_matching(fake: Sequence[Maps], real: Sequence[Maps]) -> Tensor:
    """Return how differently the discriminators see a drawn picture and the real one.

    Per discriminator the L1 distances of all maps but the scores are added up; the mean over the
    discriminators is returned (pix2pixHD, Equation 4). No gradient goes to `real`.
    """
    terms = [
        l1(drawn, seen.detach())
        for maps, wanted in zip(fake, real, strict=True)
        for drawn, seen in zip(maps[:-1], wanted[:-1], strict=True)
    ]
    return torch.stack(terms).sum() / len(fake)


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return (|gradient| - 1)^2 [N] of the scores by `x` [N,C,H,W] (Gulrajani et al. 2017).

    All channels of `x` count, those of the condition included.
    """
    x = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    # the tiny shift keeps the slope of the root finite where the gradient is 0
    return ((grad.flatten(1) + 1e-16).norm(dim=1) - 1).square()
