"""The baselines by name: how each is built for a data set, trained in its paper, and stored."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from fewshot_smis.baselines.batch import Method
from fewshot_smis.baselines.checkpoint import load_weights
from fewshot_smis.baselines.config import check_choice
from fewshot_smis.baselines.oasis import Oasis, OasisConfig
from fewshot_smis.baselines.pix2pix import Pix2Pix, Pix2PixConfig, Pix2PixLabels
from fewshot_smis.baselines.pix2pixhd import Pix2PixHD, Pix2PixHDConfig
from fewshot_smis.baselines.segmenter import Segmenter, SegmenterConfig
from fewshot_smis.baselines.spade import Spade, SpadeConfig
from fewshot_smis.perceptual import PerceptualDistance
from stylegan.config import Config
from stylegan.errors import CheckpointError, ConfigError
from stylegan.files import read_tensors, write_tensors
from stylegan.seeding import stream

KIND = "baseline"


class Recipe(NamedTuple):
    """How a method is optimised: Adam for each side, at learning rates of their own."""

    lr: float  # of the generator
    lr_discriminator: float
    betas: tuple[float, float]
    decay: float  # share of the steps, at the end, over which the rates fall to 0
    ema: float | None  # decay of the averaged generator; None: no average


class Family(NamedTuple):
    """A method, what it is configured by, and its paper's recipe."""

    config: type[Config]
    method: Any  # called with the configuration, a generator and perhaps a distance
    recipe: Recipe
    perceptual: bool = False  # whether it may take a perceptual distance

    @property
    def perceptual_weight(self) -> float:
        """Weight of a perceptual distance in the paper's recipe; 0 where it has none."""
        weight: float = getattr(self.config, "perceptual_weight", 0.0)
        return weight


PIX2PIX = Recipe(2e-4, 2e-4, (0.5, 0.999), 0.5, None)
FAMILIES = {
    "pix2pix": Family(Pix2PixConfig, Pix2Pix, PIX2PIX),
    "pix2pixhd": Family(Pix2PixHDConfig, Pix2PixHD, PIX2PIX, True),
    "spade": Family(SpadeConfig, Spade, Recipe(1e-4, 4e-4, (0.0, 0.9), 0.5, None), True),
    "oasis": Family(OasisConfig, Oasis, Recipe(1e-4, 4e-4, (0.0, 0.999), 0.0, 0.9999), True),
    # the other direction, from pictures to label maps
    "pix2pix-labels": Family(Pix2PixConfig, Pix2PixLabels, PIX2PIX),
    "segmenter": Family(SegmenterConfig, Segmenter, Recipe(1e-3, 1e-3, (0.9, 0.999), 0.5, None)),
}
NAMES = tuple(FAMILIES)


def halvings(size: tuple[int, int]) -> int:
    """Return how often both sides of `size` can be halved.

    >>> halvings((64, 96))
    5
    """
    return min((side & -side).bit_length() - 1 for side in size)


def fitting(name: str, num_classes: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the options of method `name` that follow from the data: depth shrinks with `size`."""
    check_choice("baseline", name, NAMES)
    depth = halvings(size)
    if name == "segmenter":
        return {"num_classes": num_classes, "levels": max(min(5, depth), 2)}
    if name.startswith("pix2pix") and name != "pix2pixhd":
        patch = 70 if min(size) >= 24 else 16
        return {"num_classes": num_classes, "levels": min(8, depth), "patch": patch}
    if name == "pix2pixhd":
        return {"num_classes": num_classes, "halvings": max(min(4, depth - 1), 1)}
    if name == "spade":
        four = min(size).bit_length() - 3  # doublings from a map of four pixels
        return {"num_classes": num_classes, "size": size, "doublings": max(min(5, four, depth), 0)}
    return {"num_classes": num_classes, "size": size, "blocks": min(6, depth)}


def build(
    name: str,
    options: dict[str, Any],
    *,
    seed: int = 0,
    perceptual: PerceptualDistance | None = None,
) -> Method:
    """Build method `name` from its configuration's `options`, first weights drawn from `seed`.

    Raises:
        ConfigError: An option it does not have, a value out of range, or a perceptual distance
            for a method without.
    """
    check_choice("baseline", name, NAMES)
    family = FAMILIES[name]
    unknown = sorted(options.keys() - {field.name for field in dataclasses.fields(family.config)})
    if unknown:
        known = ", ".join(field.name for field in dataclasses.fields(family.config))
        raise ConfigError(f"{name} has no option {unknown[0]!r}; it has {known}")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    config = family.config.from_dict(values)
    gen = stream(seed, f"baseline/{name} weights")
    if perceptual is None:
        return family.method(config, gen)
    if not family.perceptual:
        raise ConfigError(f"{name} takes no perceptual distance; leave it out, or train spade")
    return family.method(config, gen, perceptual)


def drawing_copy(method: Method) -> Method:
    """Return a method that draws with weights of its own, without gradients or discriminators."""
    other = copy.copy(method)
    kept = {k: net for k, net in method.networks.items() if not k.startswith("discriminator")}
    other.networks = copy.deepcopy(nn.ModuleDict(kept)).eval().requires_grad_(False)
    return other


class Trained(NamedTuple):
    """A method that is ready to draw, and the size (H, W) it was trained at."""

    method: Method
    size: tuple[int, int]


def save_method(method: Method, size: tuple[int, int], path: Path) -> None:
    """Write what `method` draws with, its configuration and size to `path` (.safetensors)."""
    name = next(name for name, family in FAMILIES.items() if type(method) is family.method)
    config = json.dumps(method.config.to_dict())
    header = {"kind": KIND, "method": name, "config": config, "size": json.dumps(size)}
    state = method.networks.state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith("discriminator")}
    write_tensors(path, kept, header)


def load_method(path: Path, device: torch.device | str = "cpu") -> Trained:
    """Return the method stored at `path`, in eval mode, without gradients.

    Raises:
        CheckpointError: The file is missing, or holds no baseline.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("kind") != KIND:
        raise CheckpointError(f"{path}: holds no baseline; give the model.safetensors of its run")
    options = json.loads(metadata["config"])
    if "perceptual_weight" in options:
        options["perceptual_weight"] = 0.0  # a matter of training
    method = drawing_copy(build(metadata["method"], options))
    load_weights(method.networks, tensors, str(path))
    method.networks.to(device)
    height, width = json.loads(metadata["size"])
    return Trained(method, (height, width))
