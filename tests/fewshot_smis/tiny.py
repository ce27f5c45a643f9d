"""Tiny random networks for tests: they build and run in milliseconds."""

import torch

from encoders import EncoderConfig, MaskEncoder, build_encoder
from fewshot_smis.data import Classes
from fewshot_smis.labelers import Labeler, fit_labeler
from stylegan import Generator, GeneratorConfig
from stylegan.seeding import sample_z, stream


def tiny_prior(resolution: int = 16, *, width: int = 8, seed: int = 0) -> Generator:
    """Return a random generator with noise switched on, and with the true mean of its w."""
    sizes = [2**i for i in range(2, resolution.bit_length())]
    config = GeneratorConfig(
        img_resolution=resolution,
        z_dim=width,
        w_dim=width,
        mapping_layers=2,
        channels=dict.fromkeys(sizes, width),
    )
    prior = Generator(config).eval().requires_grad_(False)
    gen = stream(seed, "tiny prior")
    for name, value in prior.state_dict().items():
        if name.endswith("noise_strength"):
            value.fill_(0.1)
        elif name.endswith(("weight", "noise_const", "const")):
            value.normal_(generator=gen)
            if name.startswith("mapping"):  # whose learning rate is a hundredth
                value.mul_(100)
    prior.mapping.w_avg.copy_(prior.mapping(sample_z(500, width, gen))[:, 0].mean(dim=0))
    return prior


def tiny_codes(prior: Generator, num: int = 2, *, seed: int = 0) -> torch.Tensor:
    """Return codes [num,L,D] of random samples."""
    return prior.mapping(sample_z(num, prior.z_dim, stream(seed, "tiny codes")))


def tiny_labels(num: int = 2, num_classes: int = 3, size: tuple[int, int] = (20, 24)):
    """Return maps [num,H,W] whose columns hold class 0, 1, ... from left to right."""
    row = torch.arange(size[1]) * num_classes // size[1]
    return row.expand(num, *size).clone()


def tiny_labeler(prior: Generator, num_classes: int = 3, *, sparse: bool = False) -> Labeler:
    """Return a labeler fitted to two samples and `tiny_labels`."""
    classes = Classes.generic(num_classes, sparse=sparse)
    size = min(prior.img_resolution, 64)
    return fit_labeler(
        prior, tiny_codes(prior), tiny_labels(2, num_classes), classes, resolution=size
    )


def tiny_encoder(prior: Generator, num_classes: int = 3, *, seed: int = 0) -> MaskEncoder:
    """Return a fresh light encoder of 16 px maps for `prior`."""
    config = EncoderConfig(
        trunk="light",
        in_channels=num_classes,
        num_ws=prior.num_ws,
        w_dim=prior.w_dim,
        input_size=16,
        width=8,
    )
    return build_encoder(config, prior.mapping.w_avg, seed=seed)
