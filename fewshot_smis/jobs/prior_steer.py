"""`prior train --steer`: directions of w for attributes, which z decides in the end."""

import torch

from fewshot_smis.data.collection import PictureSource
from fewshot_smis.runs import Run
from stylegan import Generator, save_generator
from stylegan.errors import ConfigError
from stylegan.seeding import stream
from stylegan.steering import Steering, check_labels, check_unsteered, settle
from stylegan.training import PriorTrainer


def attribute_names(text: str) -> list[str]:
    """Return the attributes that --steer names."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise ConfigError(f"--steer {text}: give names with a comma between, as glasses,hat")
    return names


def build_steering(generator: Generator, images: PictureSource, seed: int) -> Steering:
    """Return a direction for each attribute of the pictures.

    Raises:
        ConfigError: There are more attributes than z has dimensions, or z decides some already.
    """
    check_unsteered(generator)
    check_labels(images.conditions, generator.z_dim)
    return Steering(generator.mapping, images.c_dim, stream(seed, "prior/steering"))


def finish(trainer: PriorTrainer, steering: Steering, run: Run) -> None:
    """Write the average with a mapping in which z decides the attributes."""
    labels = trainer.images.labels(torch.arange(len(trainer.images)))
    gen = stream(trainer.seed, "prior/settle")
    settled = settle(trainer.G_ema, steering.directions, labels, gen=gen)
    write_generator(trainer, settled, run)


def write_generator(trainer: PriorTrainer, generator: Generator, run: Run) -> None:
    """Write a generator of the training into its run, with how far the training was."""
    notes = {"kimg": f"{trainer.images_seen / 1000:.1f}"}
    save_generator(generator, run.path / "generator.safetensors", notes=notes)
