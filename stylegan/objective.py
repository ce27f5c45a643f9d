"""The adversarial losses and regularisers of StyleGAN2, each a plain function."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.seeding import Source, randn
from stylegan.stylegan2 import Generator


def generator_loss(fake: Tensor) -> Tensor:
    """Return the non-saturating loss of the generator, softplus(-logit), from logits [N, 1]."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the logistic loss of the discriminator from logits of real and fake pictures."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1_penalty(
    discriminator: Callable[[Tensor, Tensor | None], Tensor], real: Tensor, c: Tensor | None = None
) -> Tensor:
    """Return the squared gradient norm [N] of the logits by the real pictures [N, C, H, W]."""
    real = real.detach().requires_grad_()
    logits = discriminator(real, c)
    (grad,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return grad.square().sum(dim=(1, 2, 3))


def path_lengths(generator: Generator, ws: Tensor, gen: Source) -> Tensor:
    """Return the length [N] of J_w^T y for a random unit-scale picture y (StyleGAN2, equation 4).

    Args:
        generator: The network to regularise.
        ws: [N, num_ws, w_dim], part of a graph.
        gen: Source of the random pictures and of the noise inputs.
    """
    img = generator.synthesis(ws, noise_mode="random", generator=gen).img
    noise = randn(img.shape, gen).to(img.device) / math.sqrt(img.shape[2] * img.shape[3])
    (grad,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
    return grad.square().sum(dim=2).mean(dim=1).sqrt()
