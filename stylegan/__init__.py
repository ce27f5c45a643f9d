"""The prior: StyleGAN generators and discriminators, z -> ws -> picture and features.

    G = stylegan.load_generator("prior.pkl")
    ws = G.mapping(z)                                      # [N, num_ws, w_dim]
    out = G.synthesis(ws, feature_resolutions=(64,))       # out.img, out.feats[64]
"""

from stylegan.checkpoint import (
    Snapshot,
    convert,
    describe,
    load_generator,
    load_snapshot,
    save_generator,
)
from stylegan.discriminator import Discriminator, DiscriminatorConfig
from stylegan.stylegan2 import Generator, GeneratorConfig, Rendering

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "Rendering",
    "Snapshot",
    "convert",
    "describe",
    "load_generator",
    "load_snapshot",
    "save_generator",
]
