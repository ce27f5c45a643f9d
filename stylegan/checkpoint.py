"""Load, save, convert and describe generators; opening a file never runs code from it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stylegan.discriminator import Discriminator
from stylegan.errors import CheckpointError, ConfigError
from stylegan.files import json_text, write_tensors, write_torch
from stylegan.formats import ALL_PARTS, BESIDE, Checkpoint, read_checkpoint
from stylegan.one_class import one_class_discriminator, one_class_generator
from stylegan.prior import Prior
from stylegan.rosinality import discriminator_to_rosinality, generator_to_rosinality
from stylegan.seeding import sample_z, stream
from stylegan.sizes import (
    DESIGNED,
    GeneratorWeights,
    build_discriminator,
    build_generator,
    num_parameters,
)

TARGETS = ("safetensors", "rosinality", "nvidia-state")
_W_AVG_SAMPLES, _CHUNK = 10_000, 1_000
_log = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """The networks of a training snapshot; sample from `G_ema`, resume from all three."""

    G_ema: Prior
    G: Prior | None
    D: Discriminator | None


def load_generator(path: str | Path, device: torch.device | str = "cpu") -> Prior:
    """Load the averaged generator of a checkpoint.

    Opens NVIDIA's .pkl (stylegan2-ada-pytorch and stylegan3, T and R), rosinality .pt, the decoder
    of pSp .pt, genforce's StyleGAN1 .pth, state dicts in NVIDIA's names, and .safetensors. Sizes
    are read off the weights. A file without an average latent gets the mean of 10,000 mapped
    latents of a fixed random stream.

    Returns:
        The network on `device`: float32, eval mode, without gradients.

    Raises:
        CheckpointError: the file is missing, damaged, wants to run code, or holds something else.
    """
    path = Path(path)
    return _generator(read_checkpoint(path, ("G_ema",)).G_ema, str(path)).to(device)


def load_snapshot(path: str | Path) -> Snapshot:
    """Load the averaged generator, the trained generator and the discriminator of a checkpoint.

    `G` and `D` are None where the file has none. All are on the CPU, float32, eval mode, without
    gradients.

    Raises:
        CheckpointError: as for `load_generator`.
    """
    path = Path(path)
    return _snapshot(read_checkpoint(path), str(path))


def save_generator(
    generator: Prior,
    path: str | Path,
    *,
    discriminator: Discriminator | None = None,
    half: bool = False,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a generator as .safetensors with its configuration in the header.

    Args:
        generator: The network to save.
        path: File to write, whole or not at all; parent folders are made.
        discriminator: Kept beside it, so that a training can go on from the file.
        half: Store matrices and kernels as float16 (half the size, pictures change slightly);
            they load as float32.
        notes: Further facts for the header, such as {"kimg": "1000"}.

    Raises:
        CheckpointError: the file cannot be written, or a weight is beyond float16.
    """
    path = Path(path)
    state = generator.state_dict()
    header = {
        **(notes or {}),
        "kind": f"{generator.config.family}-generator",
        "config": json_text(generator.config.to_dict()),
    }
    if discriminator is not None:
        state |= {BESIDE + k: t for k, t in discriminator.state_dict().items()}
        header["discriminator"] = json_text(discriminator.config.to_dict())
    if half:
        state = {k: _to_half(k, t, path) for k, t in state.items()}
    write_tensors(path, state, header)


def convert(
    src: str | Path,
    dst: str | Path,
    to: str = "safetensors",
    *,
    half: bool = False,
    label: int | None = None,
) -> None:
    """Write the networks of one checkpoint in another layout.

    Args:
        src: Any checkpoint `load_generator` opens.
        dst: File to write, whole or not at all.
        to: "safetensors" (the averaged generator, and the discriminator where there is one),
            "rosinality" (.pt with g_ema, latent_avg and, where there are, g and d) or
            "nvidia-state" (.pt, a plain state dict of the averaged generator in NVIDIA's names).
        half: Store .safetensors as float16, as `save_generator` does.
        label: Class of a conditional network to keep; what is written has no condition.

    Raises:
        ConfigError: `to` is unknown, or the network cannot be reduced to that class.
        CheckpointError: `src` cannot be read, has no such form, or `dst` cannot be written.
    """
    if to not in TARGETS:
        raise ConfigError(f"unknown target '{to}'; choose from {', '.join(TARGETS)}")
    src, dst = Path(src), Path(dst)
    parts = ("G_ema",) if to == "nvidia-state" else ALL_PARTS
    found = read_checkpoint(src, parts)
    family = found.G_ema.config.family
    if to == "rosinality" and family != "stylegan2":
        raise CheckpointError(
            f"{src}: a {family} generator has no rosinality form; convert it to safetensors instead"
        )
    snapshot = _snapshot(found, str(src))
    if to != "safetensors" and getattr(snapshot.G_ema.config, "steered", False):
        raise CheckpointError(
            f"{src}: z decides attributes of this generator, which other formats cannot say; "
            "convert it to safetensors instead"
        )
    if label is not None:
        snapshot = _one_class(snapshot, label)
    if to == "safetensors":
        save_generator(snapshot.G_ema, dst, discriminator=snapshot.D, half=half, notes=found.notes)
    elif to == "nvidia-state":
        write_torch(dst, _plain(snapshot.G_ema.state_dict()))
    else:
        write_torch(dst, _rosinality_content(snapshot, str(src)))


def describe(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint holds without building its networks.

    Returns:
        JSON values by name: format, architecture, img_resolution, img_channels, z_dim, w_dim,
        c_dim, num_ws, mapping_layers, channels (resolution -> width), conv_clamp, parameters,
        dtype (of the stored weights), has_w_avg (False: estimated at loading), has_g, has_d, and
        whatever else the file states, such as kimg.

    Raises:
        CheckpointError: as for `load_generator`.
    """
    found = read_checkpoint(Path(path))
    config, state = found.G_ema
    sizes = config.to_dict()
    sizes.pop("resample_filter", None)
    return {
        "format": found.format,
        "family": config.family,
        **sizes,
        "num_ws": config.num_ws,
        "parameters": num_parameters(state),
        "dtype": str(next(t for t in state.values() if t.ndim == 4).dtype).removeprefix("torch."),
        "has_w_avg": "mapping.w_avg" in state,
        "has_g": found.G is not None,
        "has_d": found.D is not None,
        **found.notes,
    }


@torch.no_grad()
def estimate_w_avg(generator: Prior) -> Tensor:
    """Return the mean w [D] of 10,000 latents of a fixed stream, over all classes in turn."""
    gen = stream(0, "w_avg")
    total = torch.zeros(generator.w_dim, dtype=torch.float64)
    for start in range(0, _W_AVG_SAMPLES, _CHUNK):
        z = sample_z(_CHUNK, generator.z_dim, gen)
        c = None
        if generator.c_dim > 0:
            ids = torch.arange(start, start + _CHUNK) % generator.c_dim
            c = torch.nn.functional.one_hot(ids, generator.c_dim).float()
        total += generator.mapping.map(z, c).double().sum(dim=0)
    return (total / _W_AVG_SAMPLES).float()


def _snapshot(found: Checkpoint, source: str) -> Snapshot:
    return Snapshot(
        _generator(found.G_ema, source),
        None if found.G is None else _generator(found.G, source),
        None if found.D is None else build_discriminator(found.D, source),
    )


def _generator(weights: GeneratorWeights, source: str) -> Prior:
    net = build_generator(weights, source)
    if "mapping.w_avg" not in weights.state:
        net.mapping.w_avg.copy_(estimate_w_avg(net))
    return net


def _one_class(snapshot: Snapshot, label: int) -> Snapshot:
    """Return the networks of one class, without a condition."""
    G, D = snapshot.G, snapshot.D
    return Snapshot(
        one_class_generator(snapshot.G_ema, label),
        None if G is None else one_class_generator(G, label),
        None if D is None or not D.c_dim else one_class_discriminator(D, label),
    )


def _to_half(name: str, tensor: Tensor, path: Path) -> Tensor:
    if tensor.ndim < 2 or name.rpartition(".")[2] in DESIGNED:
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        raise CheckpointError(
            f"{path}: '{name}' has weights that float16 cannot hold (or that are not finite); "
            "save it without half"
        )
    return half


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: t.contiguous().clone() for k, t in state.items()}


def _rosinality_content(snapshot: Snapshot, source: str) -> dict[str, object]:
    ema = snapshot.G_ema
    content: dict[str, object] = {"g_ema": _plain(generator_to_rosinality(ema.state_dict()))}
    clamp = getattr(ema.config, "conv_clamp", None)
    if clamp is not None:
        _log.warning(
            "%s: rosinality's layout cannot store the clamp of activations at %g; pictures differ "
            "only where activations exceed it",
            source,
            clamp,
        )
    if snapshot.G is not None:
        content["g"] = _plain(generator_to_rosinality(snapshot.G.state_dict()))
    if snapshot.D is not None:
        try:
            content["d"] = _plain(discriminator_to_rosinality(snapshot.D.state_dict()))
        except CheckpointError as err:
            _log.warning("%s: the discriminator is left out: %s", source, err)
    content["latent_avg"] = ema.mapping.w_avg.clone()
    return content
