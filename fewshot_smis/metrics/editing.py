"""How well an edit did: its map inside the change, the photograph outside, the person in all."""

from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_smis.data import resize_image
from fewshot_smis.editing import Change, blend
from fewshot_smis.losses import l2
from fewshot_smis.metrics.segmentation import class_iou, confusion
from fewshot_smis.perceptual import PerceptualDistance


class Kept(NamedTuple):
    """How much of the photographs an edit left as it was; 0 is all."""

    pixels: Tensor  # [N], root mean square outside the change, of a range of 2
    perceptual: Tensor  # [N], distance outside; inside the photograph stands in
    identity: Tensor  # [N], distance of the whole pictures


def miou_inside(pred: Tensor, change: Change, num_classes: int) -> Tensor:
    """Return for each picture the mIoU [N] of its map `pred` [N,H,W] with the changed map.

    Only the pixels count whose class was changed, and of the classes those painted there.
    """
    scores = []
    for found, wanted, where in zip(pred, change.label, change.changed, strict=True):
        scores.append(painted_iou(found[where], wanted[where], num_classes))
    return torch.tensor(scores)


def painted_iou(pred: Tensor, target: Tensor, num_classes: int) -> float:
    """Return the mean IoU over the classes of `target`; both [P] int64, of the same pixels.

    Other classes in `pred` count by what they take from these, not as classes of their own.
    """
    counts = confusion(pred, target, num_classes)
    return float(class_iou(counts)[counts.sum(dim=1) > 0].mean())


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
