"""One class of a conditional network, as a network without a condition.

The condition enters StyleGAN2's and 3's mapping as a vector beside z, and the discriminator's last
layer as a projection. For one class both are constants, so they go into a bias and into weights:
the result draws and judges exactly what the conditional network does under that class.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.discriminator import Discriminator
from stylegan.errors import ConfigError
from stylegan.layers import normalize_2nd_moment
from stylegan.prior import Prior
from stylegan.seeding import sample_z, stream
from stylegan.stylegan2 import Generator
from stylegan.stylegan3 import StyleGAN3

_SAMPLES = 10_000  # latents whose mean is the class's average

Network = TypeVar("Network", Prior, Discriminator)


@torch.no_grad()
def one_class_generator(prior: Prior, label: int) -> Prior:
    """Return the generator of class `label` alone; its average w is that of the class.

    Raises:
        ConfigError: The generator has no such class, or is a StyleGAN1, which normalises z and
            condition together.
    """
    if not isinstance(prior, Generator | StyleGAN3):
        raise ConfigError(
            f"a {prior.config.family} generator cannot be reduced to one class; "
            "only StyleGAN2 and StyleGAN3 can"
        )
    c = _one_hot(label, prior.c_dim)
    mapping = prior.mapping
    embedded = normalize_2nd_moment(mapping.embed(c.to(mapping.embed.weight)))
    z = sample_z(_SAMPLES, prior.z_dim, stream(0, "stylegan/one-class")).to(embedded)
    average = mapping.map(z, c.to(z).expand(len(z), -1)).mean(dim=0)
    out = _without_condition(prior)
    first, new = cast(Any, mapping).fc0, cast(Any, out.mapping).fc0
    new.weight.copy_(first.weight[:, : prior.z_dim] * (first.weight_gain / new.weight_gain))
    constant = (embedded @ first.weight[:, prior.z_dim :].t())[0]
    new.bias.copy_(first.bias + constant * (first.weight_gain / first.bias_gain))
    out.mapping.w_avg.copy_(average)
    return out


@torch.no_grad()
def one_class_discriminator(discriminator: Discriminator, label: int) -> Discriminator:
    """Return the discriminator of class `label` alone.

    Raises:
        ConfigError: The discriminator has no such class.
    """
    c = _one_hot(label, discriminator.c_dim)
    cmap = discriminator.mapping(None, c.to(discriminator.b4.out.weight))  # [1,cmap_dim]
    out = _without_condition(discriminator)
    weight, bias = discriminator.b4.out.weight, discriminator.b4.out.bias
    out.b4.out.weight.copy_(cmap @ weight / math.sqrt(cmap.shape[1]))
    out.b4.out.bias.copy_(cmap[0] @ bias / math.sqrt(cmap.shape[1]))
    return out


def _one_hot(label: int, c_dim: int) -> Tensor:
    if not 0 <= label < c_dim:
        has = f"{c_dim} classes, 0 to {c_dim - 1}" if c_dim else "no classes"
        raise ConfigError(f"class {label}: the network has {has}")
    return F.one_hot(torch.tensor([label]), c_dim).float()


def _without_condition(network: Network) -> Network:
    """Return the network built without a condition, with all weights that fit it."""
    build: Callable[[Any], Network] = type(network)
    out = build(dataclasses.replace(network.config, c_dim=0))
    given = network.state_dict()
    for key, tensor in out.state_dict().items():
        if given[key].shape == tensor.shape:
            tensor.copy_(given[key])
    return out.eval().requires_grad_(False)
