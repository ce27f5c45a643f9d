"""Encoders in files: ours (.safetensors), and public pSp and Fewshot-SMIS checkpoints (.pt).

No file is ever executed: pickles are read with weights_only. All sizes follow from the tensors;
of a checkpoint's options only `start_from_latent_avg` and the number of codes are consulted.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.psp import EncoderConfig, MaskEncoder, expand_latent_avg
from stylegan.errors import CheckpointError, ConfigError, ShapeError
from stylegan.files import (
    Container,
    container_of,
    json_text,
    read_tensors,
    read_torch,
    write_tensors,
)

FILE_NAME = "encoder.safetensors"
KIND = "mask-encoder"
KEEP_FLOAT32 = ("latent_avg", "running_mean", "running_var")  # too wide a range for half
EXPECTED = f"a pSp or Fewshot-SMIS checkpoint (.pt) or an {FILE_NAME}"
PUBLIC_SIZE = 256  # input side of public checkpoints whose tensors do not tell


def save_encoder(encoder: MaskEncoder, path: Path | str, *, half: bool = False) -> None:
    """Write `encoder` with its configuration to `path` (.safetensors), whole or not at all.

    `half` stores float16, except for the latent average and running statistics. Raises
    CheckpointError when the file cannot be written.
    """
    state = {
        name: value.half() if half and _halves(name, value) else value
        for name, value in encoder.state_dict().items()
    }
    header = {"kind": KIND, "config": json_text(encoder.config.to_dict())}
    write_tensors(Path(path), state, header)


def load_encoder(path: Path | str, device: torch.device | str = "cpu") -> MaskEncoder:
    """Return the encoder stored at `path`: eval mode, float32, no gradients.

    `path` is our .safetensors file, a public checkpoint, or a folder (a run directory), whose
    newest encoder.safetensors is taken. Raises CheckpointError for anything else.
    """
    path = _newest(Path(path))
    container = container_of(path)
    if container is Container.SAFETENSORS or path.suffix == ".safetensors":
        config, state = _ours(path)
    elif container is Container.PICKLE:
        raise CheckpointError(
            f"{path}: a pickle, as StyleGANs of NVIDIA come in, not an encoder; give {EXPECTED}"
        )
    else:
        config, state = _public(path)
    state = {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
    with torch.device("meta"):
        encoder = MaskEncoder(config)
    _fill(encoder, state, path)
    return encoder.to(device).eval().requires_grad_(False)


def _halves(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and name.rsplit(".", 1)[-1] not in KEEP_FLOAT32


def _newest(path: Path) -> Path:
    """Return `path`, or the newest encoder file below it if it is a folder."""
    if not path.is_dir():
        return path
    files = sorted(path.rglob(FILE_NAME), key=lambda file: file.stat().st_mtime)
    if not files:
        raise CheckpointError(f"{path}: no {FILE_NAME} in this folder; has its training finished?")
    return files[-1]


def _ours(path: Path) -> tuple[EncoderConfig, dict[str, Tensor]]:
    """Read a file of `save_encoder`."""
    tensors, metadata = read_tensors(path)
    if metadata.get("kind") != KIND:
        found = metadata.get("kind", "tensors without a description")
        raise CheckpointError(f"{path}: holds {found}, not an encoder; give {EXPECTED}")
    try:
        config = EncoderConfig.from_dict(json.loads(metadata["config"]))
    except (KeyError, ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{path}: its description cannot be used ({error}); save the encoder again"
        ) from error
    return config, {name: value.clone() for name, value in tensors.items()}  # aligned in memory


def _public(path: Path) -> tuple[EncoderConfig, dict[str, Tensor]]:
    """Read a checkpoint of pSp or Fewshot-SMIS: state_dict, latent_avg and opts."""
    checkpoint = read_torch(path)
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(checkpoint).__name__}, not a table of tensors; give {EXPECTED}"
        )
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: its 'state_dict' is no table of tensors; give {EXPECTED}")
    state = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    prefix = "encoder." if any(name.startswith("encoder.") for name in state) else ""
    net = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    if "input_layer.0.weight" not in net:
        raise CheckpointError(_no_encoder(path, checkpoint))
    options = checkpoint.get("opts", {})
    options = vars(options) if isinstance(options, argparse.Namespace) else options
    if not isinstance(options, Mapping):
        options = {}
    latent_avg = checkpoint.get("latent_avg")
    try:
        config = _infer(net, _num_ws(net, state, latent_avg, options, path))
        average = _latent_avg(latent_avg, options, config, path)
    except (KeyError, ConfigError, ShapeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: no encoder of pSp with an IR-SE-50 trunk ({error}); give {EXPECTED}"
        ) from error
    return config, {f"net.{name}": v for name, v in net.items()} | {"latent_avg": average}


def _no_encoder(path: Path, checkpoint: Mapping[str, Any]) -> str:
    if "g_ema" in checkpoint or "g" in checkpoint:
        return (
            f"{path}: this is a StyleGAN2 generator (rosinality's layout), not an encoder; "
            f"give it as the prior, and {EXPECTED} as the encoder"
        )
    names = ", ".join(str(name) for name in list(checkpoint)[:3]) or "nothing"
    return f"{path}: no encoder in it (it holds {names}, ...); give {EXPECTED}"


def _infer(net: Mapping[str, Tensor], num_ws: int) -> EncoderConfig:
    """Infer the configuration of a public encoder from the names and shapes of its tensors."""
    width, in_channels = net["input_layer.0.weight"].shape[:2]
    sizes: dict[str, Any] = {
        "trunk": "ir_se50",
        "in_channels": in_channels,
        "width": width,
        "num_ws": num_ws,
    }
    if "styles.0.linear.weight" in net:
        w_dim, style_width = net["styles.0.linear.weight"].shape
        convs = _count(net, r"styles\.0\.convs\.(\d+)\.weight")
        return EncoderConfig(
            kind="gradual",
            w_dim=w_dim,
            style_width=style_width,
            input_size=16 * 2**convs,
            **sizes,
        )
    if "output_layer_2.3.weight" in net:
        outputs, style_width = net["linear.weight"].shape
        return EncoderConfig(
            kind="backbone_wplus",
            w_dim=outputs // num_ws,
            style_width=style_width,
            input_size=PUBLIC_SIZE,
            **sizes,
        )
    w_dim = net["linear.weight"].shape[0]
    return EncoderConfig(kind="backbone_w", w_dim=w_dim, input_size=PUBLIC_SIZE, **sizes)


def _num_ws(
    net: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    latent_avg: object,
    options: Mapping[str, Any],
    path: Path,
) -> int:
    """Infer the number of codes from the heads, the decoder, the average or the options."""
    heads = _count(net, r"styles\.(\d+)\.linear\.weight")
    convs = _count(state, r"decoder\.convs\.(\d+)\.conv\.weight")
    if heads:
        return heads
    if convs:
        return convs + 2
    if isinstance(latent_avg, Tensor) and latent_avg.ndim == 2 and len(latent_avg) > 1:
        return len(latent_avg)
    for name in ("style_num", "n_styles"):
        if isinstance(options.get(name), int):
            return options[name]
    if "output_layer_2.3.weight" in net and net["linear.weight"].shape[0] % 512 == 0:
        return net["linear.weight"].shape[0] // 512
    raise CheckpointError(
        f"{path}: nothing in it tells the number of codes; add 'latent_avg' [num_ws,w_dim] or the "
        "decoder's tensors to the checkpoint"
    )


def _latent_avg(
    latent_avg: object, options: Mapping[str, Any], config: EncoderConfig, path: Path
) -> Tensor:
    """Return what is added to the codes: the stored average, or zeros if none was used."""
    if not options.get("start_from_latent_avg", True):
        return torch.zeros(config.num_ws, config.w_dim)
    if not isinstance(latent_avg, Tensor):
        raise CheckpointError(
            f"{path}: its codes start from the latent average, but 'latent_avg' is missing; load "
            "the checkpoint, set its 'latent_avg' to the mean w [1,w_dim] of the generator it was "
            "trained for (G.mapping.w_avg), and save it again"
        )
    return expand_latent_avg(latent_avg, config)


def _count(names: Iterable[str], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in names)


def _fill(encoder: MaskEncoder, state: dict[str, Tensor], path: Path) -> None:
    """Put `state` into `encoder`, which must be on the meta device; counters may be missing."""
    expected = encoder.state_dict()
    for name in expected:
        if name.endswith("num_batches_tracked") and name not in state:
            state[name] = torch.zeros((), dtype=torch.long)
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected)
    odd = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    for problem, names in (("lacks", missing), ("has no place for", surplus), ("resizes", odd)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                f"{path}: of another architecture than a pSp encoder ({problem} {names[0]}{more}); "
                f"give {EXPECTED}"
            )
    encoder.load_state_dict(state, assign=True)
