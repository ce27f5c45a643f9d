"""The prior: StyleGAN generators and discriminators, z -> ws -> picture and features.

`load_generator(path)` gives G; `G.mapping(z)` gives ws [N, num_ws, w_dim], and
`G.synthesis(ws, feature_resolutions=(64,))` gives `img` and `feats[64]`. `prepare(G)` draws the
same faster, for everything but training.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stylegan.checkpoint import (
        Snapshot,
        convert,
        describe,
        load_generator,
        load_snapshot,
        save_generator,
    )
    from stylegan.discriminator import Discriminator, DiscriminatorConfig
    from stylegan.prepared import prepare
    from stylegan.prior import Prior, PriorConfig, Rendering
    from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
    from stylegan.stylegan2 import Generator, GeneratorConfig
    from stylegan.stylegan3 import StyleGAN3, StyleGAN3Config, user_transform

_WHERE = {
    "Discriminator": "stylegan.discriminator",
    "DiscriminatorConfig": "stylegan.discriminator",
    "Generator": "stylegan.stylegan2",
    "GeneratorConfig": "stylegan.stylegan2",
    "Prior": "stylegan.prior",
    "PriorConfig": "stylegan.prior",
    "Rendering": "stylegan.prior",
    "Snapshot": "stylegan.checkpoint",
    "StyleGAN1": "stylegan.stylegan1",
    "StyleGAN1Config": "stylegan.stylegan1",
    "StyleGAN3": "stylegan.stylegan3",
    "StyleGAN3Config": "stylegan.stylegan3",
    "convert": "stylegan.checkpoint",
    "describe": "stylegan.checkpoint",
    "load_generator": "stylegan.checkpoint",
    "load_snapshot": "stylegan.checkpoint",
    "prepare": "stylegan.prepared",
    "save_generator": "stylegan.checkpoint",
    "user_transform": "stylegan.stylegan3",
}

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "Prior",
    "PriorConfig",
    "Rendering",
    "Snapshot",
    "StyleGAN1",
    "StyleGAN1Config",
    "StyleGAN3",
    "StyleGAN3Config",
    "convert",
    "describe",
    "load_generator",
    "load_snapshot",
    "prepare",
    "save_generator",
    "user_transform",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that errors and seeds come without torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'stylegan' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)
