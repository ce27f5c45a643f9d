"""The networks that are measured, in our form and in the yardstick's, with the same weights."""

import copy

import torch
from torch import Tensor

from benchmarks.measure import Work
from benchmarks.yardstick import plain_generator
from stylegan import Generator, GeneratorConfig, Prior
from stylegan.layers import default_channels
from stylegan.seeding import stream


def random_generator(size: int, device: torch.device, *, quick: bool = False) -> Generator:
    """Return a generator of random weights with the widths of config F (an eighth, if quick)."""
    channels = default_channels(size)
    if quick:
        channels = {res: width // 8 for res, width in channels.items()}
    config = GeneratorConfig(img_resolution=size, channels=channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(config)
    return generator.eval().requires_grad_(False).to(device)


def plainly(generator: Generator) -> Generator:
    """Return a copy that is computed as the yardstick does."""
    return plain_generator(copy.deepcopy(generator))


def drawing(prior: Prior, ws: Tensor) -> Work:
    """Return the work of drawing the pictures of `ws`."""
    return lambda: prior.synthesis(ws)


def random_codes(generator: Generator, num: int) -> Tensor:
    """Return codes ws [num,L,D] on the generator's device."""
    device = generator.mapping.w_avg.device
    z = torch.randn(num, generator.z_dim, generator=stream(0, "benchmark"))
    with torch.no_grad():
        return generator.mapping(z.to(device))
