"""Make full label maps as incomplete as drawn ones."""

import torch
from torch import Tensor

from fewshot_smis.data.classes import IGNORE


def drop_classes(
    label: Tensor, share: float, num_classes: int, gen: torch.Generator, *, nothing: int = IGNORE
) -> Tensor:
    """Return maps [N,H,W] int64 without this share (0 to 1) of the classes, others in each map.

    `nothing` is the id that is left in their places.
    """
    dropped = torch.rand(len(label), num_classes, generator=gen, device=gen.device) < share
    ids = label.clamp(max=num_classes - 1)  # unknown pixels are looked up, and stay unknown
    erased = dropped.gather(1, ids.flatten(1)).view_as(label) & (label < num_classes)
    return torch.where(erased, nothing, label)
