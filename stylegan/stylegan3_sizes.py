"""Read the sizes of a StyleGAN3 generator off its weights."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stylegan.errors import CheckpointError, FewshotError
from stylegan.stylegan3 import StyleGAN3Config, layer_resampling

# NVIDIA's names of what the weights do not tell, and ours
_ARGUMENTS = {
    "num_critical": "num_critical",
    "first_cutoff": "first_cutoff",
    "first_stopband": "first_stopband",
    "last_stopband_rel": "last_stopband_rel",
    "margin_size": "margin",
    "filter_size": "filter_size",
    "lrelu_upsampling": "lrelu_upsampling",
    "output_scale": "output_scale",
    "conv_clamp": "conv_clamp",
}


def stylegan3_config(
    state: Mapping[str, Tensor], source: str, arguments: Mapping[str, Any] | None = None
) -> StyleGAN3Config:
    """Find the sizes of a StyleGAN3 generator from its state dict.

    Args:
        state: Tensors by NVIDIA's names.
        source: What errors call the state dict, such as its path.
        arguments: What its synthesis network was built with, by NVIDIA's names, where that is
            known; else the frequencies are taken to be the paper's.

    Raises:
        CheckpointError: A tensor is missing, or the filters are not those of the frequencies.
    """
    names = _layer_names(state)
    if not names:
        raise CheckpointError(f"{source}: looks like a StyleGAN3, but holds no synthesis layers")
    try:
        last = names[-1]
        depth = sum(1 for k in state if re.fullmatch(r"mapping\.fc\d+\.weight", k))
        embedded = state.get("mapping.embed.weight")
        embed_dim, c_dim = (0, 0) if embedded is None else embedded.shape
        config = StyleGAN3Config(
            img_resolution=int(last.split("_")[1]),
            z_dim=state["mapping.fc0.weight"].shape[1] - embed_dim,
            w_dim=state["synthesis.input.affine.weight"].shape[1],
            c_dim=c_dim,
            img_channels=state[f"synthesis.{last}.weight"].shape[0],
            mapping_layers=depth,
            channels=tuple(state[f"synthesis.{n}.weight"].shape[0] for n in names[:-1]),
            conv_kernel=state[f"synthesis.{names[0]}.weight"].shape[2],
            radial_filters=state[f"synthesis.{names[0]}.down_filter"].ndim == 2,
            **{
                ours: arguments[k] for k, ours in _ARGUMENTS.items() if arguments and k in arguments
            },
        )
    except (KeyError, IndexError, ValueError, TypeError) as err:
        raise CheckpointError(
            f"{source}: looks like a StyleGAN3, but lacks {err} or has it in another form"
        ) from err
    except FewshotError as err:
        raise CheckpointError(f"{source}: {err}") from err
    _check_filters(config, names, state, source)
    return config


def _layer_names(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the synthesis layers such as "L0_36_512", the first one first."""
    found = {m[1] for k in state if (m := re.match(r"synthesis\.(L\d+_\d+_\d+)\.", k))}
    return sorted(found, key=lambda name: int(name[1:].split("_")[0]))


def _check_filters(
    config: StyleGAN3Config, names: list[str], state: Mapping[str, Tensor], source: str
) -> None:
    """Refuse a network whose filters tell of other frequencies than its configuration."""
    for name, designed in zip(names, layer_resampling(config), strict=True):
        for kind in ("up_filter", "down_filter"):
            ours: Tensor | None = getattr(designed, kind)
            theirs = state.get(f"synthesis.{name}.{kind}")
            if ours is None or theirs is None:
                continue
            if ours.shape != theirs.shape or not torch.allclose(ours, theirs.float(), atol=1e-3):
                raise CheckpointError(
                    f"{source}: the {kind} of {name} is of other frequencies than the paper's, "
                    "and the file does not say which; convert the .pkl it was made from"
                )
