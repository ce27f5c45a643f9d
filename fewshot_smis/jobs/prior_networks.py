"""What `prior train` starts from: fresh networks, or those of a file brought to its sizes."""

import copy
from pathlib import Path
from typing import NamedTuple

import torch

from fewshot_smis.runs import Run
from stylegan import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    load_snapshot,
)
from stylegan.errors import CheckpointError
from stylegan.transfer import transfer_discriminator, transfer_generator


class Networks(NamedTuple):
    """What a training starts from."""

    G: Generator
    G_ema: Generator
    D: Discriminator


class Given(NamedTuple):
    """What a file to transfer from holds."""

    name: str
    G: Generator
    G_ema: Generator
    D: Discriminator | None


def read_given(path: Path) -> Given:
    """Read a file of weights, or the newest checkpoint of a run directory.

    Raises:
        CheckpointError: The file holds no StyleGAN2, or the run no checkpoint.
    """
    file = Run(path).latest_checkpoint() if path.is_dir() else path
    if file is None:
        raise CheckpointError(f"{path}: holds no checkpoint; --transfer takes a file of weights")
    found = load_snapshot(file)
    G = found.G or found.G_ema
    if not isinstance(G, Generator) or not isinstance(found.G_ema, Generator):
        raise CheckpointError(f"{path}: not a StyleGAN2, and no other family is trained here")
    return Given(str(path), G, found.G_ema, found.D)


def build_networks(
    generator: GeneratorConfig, critic: DiscriminatorConfig, given: Given | None, *, seed: int
) -> Networks:
    """Build networks of those sizes, and fill them from what is given.

    Raises:
        CheckpointError: The given networks differ in more than the size of the pictures.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G, D = Generator(generator), Discriminator(critic)
    if given is None:
        return Networks(G, G, D)
    average = copy.deepcopy(G)
    transfer_generator(given.G_ema, average, given.name)
    transfer_generator(given.G, G, given.name)
    if given.D is not None:
        transfer_discriminator(given.D, D, given.name)
    return Networks(G, average, D)
