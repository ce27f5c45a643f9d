"""The prior: StyleGAN generators and discriminators, z -> ws -> picture and features.

`load_generator(path)` gives G; `G.mapping(z)` gives ws [N, num_ws, w_dim], and
`G.synthesis(ws, feature_resolutions=(64,))` gives `img` and `feats[64]`.
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
