"""Translate state dicts between NVIDIA's names and rosinality's stylegan2-pytorch.

Both store the same numbers: names differ, some tensors have axes of length one around them,
and rosinality's filters carry the gain of their resampling. So translating back and forth
changes no bit. pSp checkpoints hold the generator in this layout as `decoder.*`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from stylegan.errors import CheckpointError
from stylegan.ops import setup_filter
from stylegan.seeding import stream

_UP_GAIN = 4.0  # of the filters after an upsampling by two


class _Entry(NamedTuple):
    """One tensor: its two names, and the ones rosinality puts before and after its shape."""

    foreign: str
    native: str
    lead: int = 0
    trail: int = 0


def _mapping(depth: int) -> Iterator[_Entry]:
    for i in range(depth):
        yield _Entry(f"style.{i + 1}.weight", f"mapping.fc{i}.weight")
        yield _Entry(f"style.{i + 1}.bias", f"mapping.fc{i}.bias")


def _styled(foreign: str, native: str, noise: int) -> Iterator[_Entry]:
    yield _Entry(f"{foreign}.conv.weight", f"{native}.weight", lead=1)
    yield _Entry(f"{foreign}.conv.modulation.weight", f"{native}.affine.weight")
    yield _Entry(f"{foreign}.conv.modulation.bias", f"{native}.affine.bias")
    yield _Entry(f"{foreign}.noise.weight", f"{native}.noise_strength", lead=1)
    yield _Entry(f"{foreign}.activate.bias", f"{native}.bias")
    yield _Entry(f"noises.noise_{noise}", f"{native}.noise_const", lead=2)


def _to_rgb(foreign: str, native: str) -> Iterator[_Entry]:
    yield _Entry(f"{foreign}.bias", f"{native}.bias", lead=1, trail=2)
    yield _Entry(f"{foreign}.conv.weight", f"{native}.weight", lead=1)
    yield _Entry(f"{foreign}.conv.modulation.weight", f"{native}.affine.weight")
    yield _Entry(f"{foreign}.conv.modulation.bias", f"{native}.affine.bias")


def _generator(depth: int, blocks: int) -> Iterator[_Entry]:
    """List the tensors of a generator with `blocks` blocks above 4 px."""
    yield from _mapping(depth)
    yield _Entry("input.input", "synthesis.b4.const", lead=1)
    yield from _styled("conv1", "synthesis.b4.conv1", 0)
    yield from _to_rgb("to_rgb1", "synthesis.b4.torgb")
    for i in range(blocks):
        block = f"synthesis.b{8 << i}"
        yield from _styled(f"convs.{2 * i}", f"{block}.conv0", 2 * i + 1)
        yield from _styled(f"convs.{2 * i + 1}", f"{block}.conv1", 2 * i + 2)
        yield from _to_rgb(f"to_rgbs.{i}", f"{block}.torgb")


def _discriminator(blocks: int) -> Iterator[_Entry]:
    """List the tensors of a residual discriminator with `blocks` blocks above 4 px."""
    top = 4 << blocks
    yield _Entry("convs.0.0.weight", f"b{top}.fromrgb.weight")
    yield _Entry("convs.0.1.bias", f"b{top}.fromrgb.bias")
    for i in range(1, blocks + 1):
        block = f"b{top >> (i - 1)}"
        yield _Entry(f"convs.{i}.conv1.0.weight", f"{block}.conv0.weight")
        yield _Entry(f"convs.{i}.conv1.1.bias", f"{block}.conv0.bias")
        yield _Entry(f"convs.{i}.conv2.1.weight", f"{block}.conv1.weight")
        yield _Entry(f"convs.{i}.conv2.2.bias", f"{block}.conv1.bias")
        yield _Entry(f"convs.{i}.skip.1.weight", f"{block}.skip.weight")
    yield _Entry("final_conv.0.weight", "b4.conv.weight")
    yield _Entry("final_conv.1.bias", "b4.conv.bias")
    for i, layer in enumerate(("b4.fc", "b4.out")):
        yield _Entry(f"final_linear.{i}.weight", f"{layer}.weight")
        yield _Entry(f"final_linear.{i}.bias", f"{layer}.bias")


def generator_from_rosinality(
    state: Mapping[str, Tensor], latent_avg: Tensor | None = None, *, source: str = "state dict"
) -> dict[str, Tensor]:
    """Rename the tensors of a rosinality generator to NVIDIA's names.

    Args:
        state: What its `state_dict()` gives.
        latent_avg: The mean latent [D], [1, D] or [L, D] beside it; becomes `mapping.w_avg`.
        source: What errors call the state dict.

    Returns:
        The tensors by NVIDIA's names, filters included; `mapping.w_avg` only if it was given.

    Raises:
        CheckpointError: a tensor is missing or has another number of dimensions.
    """
    depth = _count(state, r"style\.(\d+)\.weight")
    blocks = _count(state, r"to_rgbs\.(\d+)\.bias")
    state = _with_noise(state, blocks)
    native = _rename(state, list(_generator(depth, blocks)), source)
    kernels = [k for k in state if re.fullmatch(r"(convs\.\d+\.conv\.blur|to_rgbs.*)\.kernel", k)]
    kernel = _one_kernel(state, kernels, _UP_GAIN, source)
    for i in range(blocks + 1):
        block = f"synthesis.b{4 << i}"
        for name in ("", ".conv0", ".conv1") if i else ("", ".conv1"):
            native[f"{block}{name}.resample_filter"] = kernel
    if latent_avg is not None:
        w_dim = native["synthesis.b4.conv1.affine.weight"].shape[1]
        if latent_avg.numel() % w_dim:
            raise CheckpointError(
                f"{source}: latent_avg is {list(latent_avg.shape)}, but w has {w_dim} numbers"
            )
        native["mapping.w_avg"] = latent_avg.reshape(-1, w_dim)[0]
    return native


def generator_to_rosinality(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a skip generator without classes to rosinality's names.

    `mapping.w_avg` has no place there; write it as `latent_avg` beside the state dict.

    Raises:
        CheckpointError: the generator is conditional or of another architecture, which
            rosinality's code cannot represent.
    """
    if "mapping.embed.weight" in state or "synthesis.b4.torgb.weight" not in state:
        kind = "conditional" if "mapping.embed.weight" in state else "resnet or orig"
        raise CheckpointError(
            f"a {kind} generator has no rosinality form (only unconditional skip generators "
            "have); convert it to safetensors or nvidia-state instead"
        )
    depth = _count(state, r"mapping\.fc(\d+)\.weight")
    blocks = _count(state, r"synthesis\.b(\d+)\.torgb\.bias") - 1
    foreign = _rename_back(state, list(_generator(depth, blocks)))
    kernel = _two_dimensional(state["synthesis.b4.resample_filter"]) * _UP_GAIN
    for i in range(blocks):
        foreign[f"convs.{2 * i}.conv.blur.kernel"] = kernel.clone()
        foreign[f"to_rgbs.{i}.upsample.kernel"] = kernel.clone()
    return foreign


def discriminator_from_rosinality(
    state: Mapping[str, Tensor], *, source: str = "state dict"
) -> dict[str, Tensor]:
    """Rename the tensors of a rosinality discriminator to NVIDIA's names, filters included.

    Raises:
        CheckpointError: a tensor is missing or has another number of dimensions.
    """
    blocks = _count(state, r"convs\.(\d+)\.skip\.1\.weight")
    native = _rename(state, list(_discriminator(blocks)), source)
    kernels = [k for k in state if k.endswith(".kernel")]
    kernel = _one_kernel(state, kernels, 1.0, source)
    for name in _filtered_by_discriminator(native):
        native[f"{name}.resample_filter"] = kernel
    return native


def discriminator_to_rosinality(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a resnet discriminator without classes to rosinality's names.

    Raises:
        CheckpointError: the discriminator is conditional or of another architecture.
    """
    if "b8.skip.weight" not in state or "mapping.embed.weight" in state:
        raise CheckpointError(
            "only unconditional resnet discriminators have a rosinality form; "
            "convert to safetensors or nvidia-state instead"
        )
    blocks = _count(state, r"b(\d+)\.skip\.weight")
    foreign = _rename_back(state, list(_discriminator(blocks)))
    kernel = _two_dimensional(state["b8.resample_filter"])
    for i in range(1, blocks + 1):
        foreign[f"convs.{i}.conv2.0.kernel"] = kernel.clone()
        foreign[f"convs.{i}.skip.0.kernel"] = kernel.clone()
    return foreign


def _filtered_by_discriminator(native: Mapping[str, Tensor]) -> list[str]:
    """Name the modules that own a filter: convolutions, and blocks above 4 px."""
    layers = {k.rpartition(".")[0] for k, t in native.items() if t.ndim == 4}
    blocks = {k.partition(".")[0] for k in native} - {"b4"}
    return sorted(layers | blocks)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({m[1] for k in state if (m := re.fullmatch(pattern, k))})


def _rename(state: Mapping[str, Tensor], entries: list[_Entry], source: str) -> dict[str, Tensor]:
    native = {}
    for foreign, name, lead, trail in entries:
        if foreign not in state:
            raise CheckpointError(
                f"{source}: looks like a rosinality StyleGAN2, but lacks '{foreign}'; "
                "is the file complete?"
            )
        tensor = state[foreign]
        ones = [*tensor.shape[:lead], *tensor.shape[tensor.ndim - trail :]]
        if tensor.ndim < lead + trail or any(n != 1 for n in ones):
            raise CheckpointError(
                f"{source}: '{foreign}' is {list(tensor.shape)}, unlike StyleGAN2"
            )
        native[name] = tensor.reshape(tensor.shape[lead : tensor.ndim - trail])
    _refuse_extra(state, {e.foreign for e in entries}, source)
    return native


def _refuse_extra(state: Mapping[str, Tensor], known: set[str], source: str) -> None:
    """Stop at parameters without a place: dropping them would change the pictures."""
    extra = sorted(k for k in state.keys() - known if not k.endswith("kernel"))
    if extra:
        raise CheckpointError(
            f"{source}: has {len(extra)} tensors a rosinality StyleGAN2 does not have, "
            f"such as '{extra[0]}'"
        )


def _rename_back(state: Mapping[str, Tensor], entries: list[_Entry]) -> dict[str, Tensor]:
    foreign = {}
    for name, native, lead, trail in entries:
        if native not in state:
            raise CheckpointError(f"the state dict lacks '{native}'")
        shape = (1,) * lead + tuple(state[native].shape) + (1,) * trail
        foreign[name] = state[native].reshape(shape).contiguous()
    return foreign


def _one_kernel(state: Mapping[str, Tensor], names: list[str], gain: float, source: str) -> Tensor:
    """Return the filter [h, w] of unit sum that all `names` share."""
    if not names:
        return setup_filter((1, 3, 3, 1))
    first = state[names[0]]
    for name in names[1:]:
        if not torch.equal(state[name], first):
            raise CheckpointError(f"{source}: '{name}' differs from '{names[0]}'")
    return first / gain


def _two_dimensional(kernel: Tensor) -> Tensor:
    return torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel


def _with_noise(state: Mapping[str, Tensor], blocks: int) -> Mapping[str, Tensor]:
    """Add fixed noise to files from before rosinality's code stored it; any will do."""
    if any(k.startswith("noises.") for k in state):
        return state
    gen = stream(0, "noise_const")
    sizes = [4] + [8 << i for i in range(blocks) for _ in range(2)]
    noise = {
        f"noises.noise_{i}": torch.randn(1, 1, r, r, generator=gen) for i, r in enumerate(sizes)
    }
    return {**state, **noise}
