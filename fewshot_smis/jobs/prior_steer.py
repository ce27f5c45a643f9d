"""`prior train --steer`: directions of w for attributes, which z decides in the end."""

import torch

from fewshot_smis.data.collection import PictureSource
from fewshot_smis.jobs.base import counter
from fewshot_smis.runs import Run
from stylegan import Generator, save_generator
from stylegan.errors import ConfigError
from stylegan.seeding import stream
from stylegan.steering import Steering, check_labels, fit_mapping
from stylegan.training import PriorTrainer

FIT_STEPS = 20_000


def attribute_names(text: str) -> list[str]:
    """Return the attributes that --steer names."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise ConfigError(f"--steer {text}: give names with a comma between, as glasses,hat")
    return names


def build_steering(generator: Generator, images: PictureSource, seed: int) -> Steering:
    """Return a direction for each attribute of the pictures.

    Raises:
        ConfigError: There are more attributes than z has dimensions.
    """
    check_labels(images.conditions, generator.z_dim)
    return Steering(generator.mapping, images.c_dim, stream(seed, "prior/steering"))


def finish(trainer: PriorTrainer, steering: Steering, run: Run) -> None:
    """Write the average with a mapping under which z decides the attributes."""
    labels = trainer.images.labels(torch.arange(len(trainer.images)))
    errors = []
    with counter(FIT_STEPS, "fit mapping") as tick:

        def note(error: float) -> None:
            errors.append(error)
            tick()

        fitted = fit_mapping(
            trainer.G_ema,
            steering.directions,
            labels,
            gen=stream(trainer.seed, "prior/fit-mapping"),
            steps=FIT_STEPS,
            on_report=note,
        )
    run.log(f"z decides the attributes; w is off by {errors[-1] ** 0.5:.3f} of its deviation")
    write_generator(trainer, fitted, run)


def write_generator(trainer: PriorTrainer, generator: Generator, run: Run) -> None:
    """Write a generator of the training into its run, with how far the training was."""
    notes = {"kimg": f"{trainer.images_seen / 1000:.1f}"}
    save_generator(generator, run.path / "generator.safetensors", notes=notes)
