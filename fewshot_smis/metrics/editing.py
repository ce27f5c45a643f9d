"""How well an edit did: its map inside the change, the photograph outside, the person in all."""

from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_smis.data import resize_image
from fewshot_smis.editing import Change, blend
from fewshot_smis.losses import l2
from fewshot_smis.metrics.segmentation import mean_iou
from fewshot_smis.perceptual import PerceptualDistance


class Kept(NamedTuple):
    """How much of the photographs an edit left as it was; 0 is all."""

    pixels: Tensor  # [N], root mean square outside the change, of a range of 2
    perceptual: Tensor  # [N], distance outside; inside the photograph stands in
    identity: Tensor  # [N], distance of the whole pictures


def miou_inside(pred: Tensor, change: Change, num_classes: int) -> Tensor:
    """Return for each picture the mIoU [N] of its map `pred` [N,H,W] with the changed map.

    Only the pixels count whose class was changed.
    """
    pairs = zip(pred, change.label, change.changed, strict=True)
    return torch.tensor([mean_iou(p[c], wanted[c], num_classes) for p, wanted, c in pairs])


@torch.no_grad()
def kept(
    edited: Tensor,
    photos: Tensor,
    change: Change,
    *,
    perceptual: PerceptualDistance | None = None,
    identity: PerceptualDistance | None = None,
) -> Kept:
    """Compare pictures `edited` [N,3,H,W] with their photographs `photos` of the same shape.

    A distance that is None is NaN.
    """
    size = (photos.shape[2], photos.shape[3])
    outside = 1 - resize_image(change.free[:, None].to(photos), size)[:, 0]
    mixed = blend(photos, edited, outside)
    share = outside.mean(dim=(1, 2)).clamp(min=1e-6)
    nothing = photos.new_full((len(photos),), torch.nan)
    return Kept(
        (l2(mixed, photos) / share).sqrt(),
        nothing if perceptual is None else perceptual(mixed, photos),
        nothing if identity is None else identity(edited, photos),
    )
