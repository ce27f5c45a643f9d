"""Translate StyleGAN1 generators of genforce's layout (its converted official models) to ours.

Names differ, noise loses its axes of length one, the average latent moves into the mapping
network, and constant blur kernels are dropped.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from stylegan.errors import CheckpointError, FewshotError
from stylegan.stylegan1 import StyleGAN1Config

_NAMES = (
    (r"mapping\.dense(\d+)\.(weight|bias)", r"mapping.fc\1.\2"),
    (r"truncation\.w_avg", r"mapping.w_avg"),
    (r"(synthesis\.layer\d+)\.apply_noise\.weight", r"\1.noise_strength"),
    (r"(synthesis\.layer\d+)\.apply_noise\.noise", r"\1.noise_const"),
    (r"(synthesis\.layer\d+)\.style\.(weight|bias)", r"\1.affine.\2"),
)
_DROPPED = re.compile(r"synthesis\.layer\d+\.blur\.kernel")


def is_genforce(state: object) -> bool:
    """Tell whether a state dict is a StyleGAN1 generator in genforce's names."""
    return isinstance(state, Mapping) and "synthesis.layer0.apply_noise.weight" in state


def generator_from_genforce(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename the tensors of a genforce StyleGAN1 generator.

    Raises:
        CheckpointError: The average latent or the constant is of another shape.
    """
    native: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _DROPPED.fullmatch(name):
            continue
        ours = name
        for pattern, replacement in _NAMES:
            ours = re.sub(f"^{pattern}$", replacement, ours)
        native[ours] = tensor
    try:
        for name, tensor in native.items():
            if name.endswith((".noise_const", ".const")):
                native[name] = tensor.reshape(
                    tensor.shape[-2:] if "noise" in name else tensor.shape[1:]
                )
        if "mapping.w_avg" in native:  # one vector, or the same for each layer
            w_dim = native["synthesis.layer0.affine.weight"].shape[1]
            native["mapping.w_avg"] = native["mapping.w_avg"].reshape(-1, w_dim)[0]
    except (RuntimeError, KeyError) as err:
        raise CheckpointError(f"{source}: looks like a genforce StyleGAN1, but {err}") from err
    return native


def stylegan1_config(
    state: Mapping[str, Tensor], source: str, *, fused_from: int = 128
) -> StyleGAN1Config:
    """Find the sizes of a StyleGAN1 generator from its state dict in our names.

    From which size on upsampling is fused is not in the weights; the official networks begin at
    128 px.

    Raises:
        CheckpointError: A tensor is missing or of another form.
    """
    num = sum(1 for k in state if re.fullmatch(r"synthesis\.layer\d+\.affine\.weight", k))
    depth = sum(1 for k in state if re.fullmatch(r"mapping\.fc\d+\.weight", k))
    try:
        label = state.get("mapping.label_weight")
        first = state["mapping.fc0.weight"]
        return StyleGAN1Config(
            img_resolution=2 ** (num // 2 + 1),
            z_dim=first.shape[1] if label is None else label.shape[1],
            w_dim=state["synthesis.layer0.affine.weight"].shape[1],
            c_dim=0 if label is None else label.shape[0],
            img_channels=state["synthesis.output0.bias"].shape[0],
            mapping_layers=depth,
            mapping_dim=first.shape[0],
            channels={4 << i: len(state[f"synthesis.layer{2 * i}.bias"]) for i in range(num // 2)},
            fused_from=fused_from,
        )
    except (KeyError, IndexError) as err:
        raise CheckpointError(f"{source}: looks like a StyleGAN1, but lacks {err}") from err
    except FewshotError as err:
        raise CheckpointError(f"{source}: {err}") from err
