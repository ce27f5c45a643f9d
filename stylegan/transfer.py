"""Start a training from another network: every block that both have carries over."""

import dataclasses
from typing import TypeVar

import torch

from stylegan.discriminator import Discriminator, DiscriminatorConfig
from stylegan.errors import CheckpointError
from stylegan.layers import resolutions
from stylegan.stylegan2 import Generator, GeneratorConfig

Config = TypeVar("Config", GeneratorConfig, DiscriminatorConfig)


def resized(config: Config, img_resolution: int, base: tuple[int, int]) -> Config:
    """Return the sizes of the same network for pictures of another size.

    Each further block has half the width of the block below.
    """
    channels: dict[int, int] = {}
    for res in resolutions(img_resolution):
        channels[res] = config.channels.get(res) or max(channels[res // 2] // 2, 1)
    return dataclasses.replace(config, img_resolution=img_resolution, base=base, channels=channels)


@torch.no_grad()
def transfer_generator(source: Generator, target: Generator, name: str) -> None:
    """Fill `target` from `source`, which may be of another size.

    The to-RGB of a new block of the skip architecture starts at zero, so that the pictures are
    at first those of `source`, enlarged. `name` is what errors call the source.

    Raises:
        CheckpointError: The networks differ in more than their size.
    """
    _check(source.config, target.config, name)
    state, given = target.state_dict(), source.state_dict()
    for key, tensor in state.items():
        if key in given:
            tensor.copy_(given[key])
        elif ".torgb." in key and target.config.architecture == "skip" and "affine" not in key:
            tensor.zero_()


@torch.no_grad()
def transfer_discriminator(source: Discriminator, target: Discriminator, name: str) -> None:
    """Fill `target` from `source`, which may be of another size.

    Raises:
        CheckpointError: The networks differ in more than their size.
    """
    _check(source.config, target.config, name)
    given = source.state_dict()
    for key, tensor in target.state_dict().items():
        if key in given:
            tensor.copy_(given[key])


def _check(given: Config, asked: Config, name: str) -> None:
    """Say which sizes differ, unless only the number of blocks does."""
    have, want = given.to_dict(), asked.to_dict()
    have |= {f"channels at {r} px": n for r, n in given.channels.items()}
    want |= {f"channels at {r} px": n for r, n in asked.channels.items()}
    for field in ("img_resolution", "channels", "conv_clamp", "mbstd_group_size"):
        have.pop(field, None)
    wrong = [f"{k} {have[k]} (here {want[k]})" for k in have if k in want and have[k] != want[k]]
    if wrong:
        raise CheckpointError(
            f"{name}: its {type(given).__name__.removesuffix('Config').lower()} has "
            f"{', '.join(wrong)}; leave the sizes out to take the file's"
        )
