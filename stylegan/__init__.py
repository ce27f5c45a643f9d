"""The prior: StyleGAN generators and discriminators, z -> ws -> picture and features.

`load_generator(path)` gives G; `G.mapping(z)` gives ws [N, num_ws, w_dim], and
`G.synthesis(ws, feature_resolutions=(64,))` gives `img` and `feats[64]`.
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
    from stylegan.stylegan2 import Generator, GeneratorConfig, Rendering

_WHERE = {
    "Discriminator": "stylegan.discriminator",
    "DiscriminatorConfig": "stylegan.discriminator",
    "Generator": "stylegan.stylegan2",
    "GeneratorConfig": "stylegan.stylegan2",
    "Rendering": "stylegan.stylegan2",
    "Snapshot": "stylegan.checkpoint",
    "convert": "stylegan.checkpoint",
    "describe": "stylegan.checkpoint",
    "load_generator": "stylegan.checkpoint",
    "load_snapshot": "stylegan.checkpoint",
    "save_generator": "stylegan.checkpoint",
}

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


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that errors and seeds come without torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'stylegan' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)
