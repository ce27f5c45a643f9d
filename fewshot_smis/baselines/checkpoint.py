"""Public checkpoints of pix2pix and pix2pixHD: their sizes are read off their tensors.

state = read_state("latest_net_G.pth")
generator = load_weights(UNet(unet_config(state, "latest_net_G.pth")), state, "..")
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from fewshot_smis.baselines.hd_networks import FeatureEncoder, HDConfig, MultiscaleDiscriminator
from fewshot_smis.baselines.patchgan import HALVINGS, PatchConfig
from fewshot_smis.baselines.unet import UNetConfig
from stylegan.errors import CheckpointError
from stylegan.files import container_of, read_torch

State = Mapping[str, Tensor]
_Net = TypeVar("_Net", bound=nn.Module)


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Return the table of tensors in the .pth file at `path`; CheckpointError for other files."""
    path = Path(path)
    container_of(path)  # names missing files, web pages and the like
    state = read_torch(path)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(
            f"{path}: not a table of tensors; give a file such as latest_net_G.pth"
        )
    return {str(k).removeprefix("module."): cast(Tensor, v) for k, v in state.items()}


def load_weights(net: _Net, state: State, source: str) -> _Net:
    """Put the tensors of `state` into `net` and return it.

    Old files carry running statistics that instance norms no longer have, and lack the counters
    of batch norms; both load.

    Raises:
        CheckpointError: Tensors are missing, left over or of another shape; `source` is named.
    """
    given, expected = dict(state), net.state_dict()
    for name, module in net.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            for key in ("running_mean", "running_var", "num_batches_tracked"):
                given.pop(f"{name}.{key}", None)
        elif isinstance(module, nn.BatchNorm2d):
            given.setdefault(f"{name}.num_batches_tracked", torch.zeros((), dtype=torch.long))
    lacking, surplus = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected)
    odd = [key for key in expected if key in given and given[key].shape != expected[key].shape]
    for problem, names in (("lacks", lacking), ("has no place for", surplus), ("resizes", odd)):
        if names:
            raise CheckpointError(
                f"{source}: of another architecture than {type(net).__name__} ({problem} "
                f"{names[0]}, {len(names)} in all); is it the checkpoint of another network?"
            )
    net.load_state_dict(given)
    return net


def unet_config(state: State, source: str) -> UNetConfig:
    """Find the sizes of a generator of pix2pix from its state dict.

    Raises:
        CheckpointError: It is none: a tensor is missing.
    """
    depth = max((key.count("model.") for key in state), default=0)  # model.model.1.model.3. ..
    first = _tensor(state, "model.model.0.weight", source)
    last = _tensor(state, "model.model.3.weight", source)
    return UNetConfig(
        in_channels=first.shape[1],
        out_channels=last.shape[1],
        levels=depth - 1,
        width=first.shape[0],
        skips=last.shape[0] == 2 * first.shape[0],
        norm=_norm(state, "model.model.1.model.1", "model.model.1.model.2"),
    )


def patch_config(state: State, source: str) -> PatchConfig:
    """Find the sizes of a discriminator of pix2pix from its state dict.

    Raises:
        CheckpointError: It is none: a tensor is missing, or there are too many layers.
    """
    pixels = "net.0.weight" in state
    first = _tensor(state, "net.0.weight" if pixels else "model.0.weight", source)
    convs = [key for key in state if re.fullmatch(r"model\.\d+\.weight", key)]
    halvings = 0 if pixels else sum(state[key].ndim == 4 for key in convs) - 2
    patches = {count: patch for patch, count in HALVINGS.items()}
    if halvings not in patches:
        raise CheckpointError(
            f"{source}: {halvings + 2} convolutions make no PatchGAN of {tuple(HALVINGS)} px"
        )
    return PatchConfig(
        in_channels=first.shape[1],
        patch=patches[halvings],
        width=first.shape[0],
        norm=_norm(state, "net.2", "net.3") if pixels else _norm(state, "model.2", "model.3"),
    )


def _norm(state: State, conv: str, norm: str) -> str:
    """Tell the kind of norm behind a convolution: only that of batch norm has weights."""
    if f"{norm}.weight" in state:
        return "batch"
    return "instance" if f"{conv}.bias" in state else "none"


def _tensor(state: State, name: str, source: str) -> Tensor:
    if name not in state or state[name].ndim != 4:
        held = ", ".join(list(state)[:3]) or "nothing"
        raise CheckpointError(f"{source}: lacks the convolution '{name}' (it holds {held}, ...)")
    return state[name]


def hd_config(state: State, source: str) -> HDConfig:
    """Find the sizes of a generator of pix2pixHD from its state dict.

    Raises:
        CheckpointError: It is none: a tensor is missing.
    """
    enhancers = len({key.split(".")[0] for key in state if re.match(r"model\d+_1\.", key)})
    outer = f"model{enhancers}_2" if enhancers else "model"
    first = _tensor(state, "model.1.weight", source)
    last = _tensor(state, f"{outer}.{max(_places(state, outer), default=0)}.weight", source)
    blocks = _places(state, "model", r"conv_block\..*")
    local = _places(state, outer, r"conv_block\..*")
    return HDConfig(
        in_channels=first.shape[1],
        out_channels=last.shape[0],
        width=first.shape[0] >> enhancers,
        halvings=(min(blocks, default=0) - 4) // 3,  # four layers open, three halve
        blocks=len(blocks),
        enhancers=enhancers,
        local_blocks=len(local) if enhancers else 3,
        norm="batch" if "model.2.weight" in state else "instance",
    )


def hd_discriminator(state: State, source: str) -> MultiscaleDiscriminator:
    """Build a discriminator of pix2pixHD and load it from its state dict.

    Files of networks without feature matching number the layers of a scale in one row.

    Raises:
        CheckpointError: Tensors are missing or left over.
    """
    renamed = {_grouped(key): value for key, value in state.items()}
    first = _tensor(renamed, "scale0_layer0.0.weight", source)
    names = {key.split(".")[0] for key in renamed}
    net = MultiscaleDiscriminator(
        first.shape[1],
        scales=sum(name.endswith("_layer0") for name in names),
        halvings=sum(name.startswith("scale0_") for name in names) - 2,
        width=first.shape[0],
        norm="batch" if "scale0_layer1.1.weight" in renamed else "instance",
    )
    return load_weights(net, renamed, source)


def feature_encoder(state: State, source: str) -> FeatureEncoder:
    """Build a feature encoder of pix2pixHD and load it from its state dict.

    Raises:
        CheckpointError: Tensors are missing or left over.
    """
    places = _places(state, "model")
    first = _tensor(state, "model.1.weight", source)
    last = _tensor(state, f"model.{max(places, default=0)}.weight", source)
    net = FeatureEncoder(
        first.shape[1],
        features=last.shape[0],
        width=first.shape[0],
        halvings=(max(places) - 5) // 6,  # four layers open, six halve and double, one pads
        norm="batch" if "model.2.weight" in state else "instance",
    )
    return load_weights(net, state, source)


def _places(state: State, prefix: str, inner: str = "weight") -> set[int]:
    """Return the places of the layers of `prefix` that hold what `inner` matches."""
    found = (re.fullmatch(rf"{prefix}\.(\d+)\.{inner}", key) for key in state)
    return {int(match[1]) for match in found if match}


def _grouped(key: str) -> str:
    """Turn `layerI.K`, layer K in a row, into `scaleI_layerJ.k`, layer k of the J-th map."""
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", key)
    if match is None:
        return key
    place = int(match[2])
    group = (place + 1) // 3  # two layers make the first map, three each other
    return f"scale{match[1]}_layer{group}.{place - max(3 * group - 1, 0)}.{match[3]}"
