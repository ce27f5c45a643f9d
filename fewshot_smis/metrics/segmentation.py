"""How well label maps agree, and how well drawn pictures keep the layout asked for."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.codes import check_codes
from fewshot_smis.data import IGNORE, resize_label
from fewshot_smis.encoding import encode
from fewshot_smis.labelers import Labeler, label_samples
from fewshot_smis.labelers.prototypes import marks
from stylegan import Prior
from stylegan.errors import ShapeError


def confusion(pred: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Count pixels [K,K] int64 by their class in `target` (row) and in `pred` (column).

    Both [...] int64 of one shape; pixels that are IGNORE in either are left out. Raises
    ShapeError if the shapes differ.
    """
    if pred.shape != target.shape:
        raise ShapeError(
            f"label maps of {list(pred.shape)} and {list(target.shape)} cannot be compared; "
            "resize one to the other"
        )
    known = (pred != IGNORE) & (target != IGNORE)
    flat = target[known] * num_classes + pred[known]
    return torch.bincount(flat, minlength=num_classes**2).view(num_classes, num_classes)


def class_iou(counts: Tensor) -> Tensor:
    """Return intersection over union of each class, [K], NaN where a class occurs in neither."""
    hit = counts.diagonal().double()
    union = counts.sum(dim=0) + counts.sum(dim=1) - hit
    return torch.where(union > 0, hit / union, torch.nan)


class Agreement(NamedTuple):
    """How well label maps agree with those they should equal; shares from 0 to 1."""

    accuracy: float  # of the pixels
    class_accuracy: float  # mean over the classes that occur in the target
    miou: float  # mean over the classes that occur in either


def agreement(counts: Tensor) -> Agreement:
    """Return the three measures of FCN (Long et al. 2015) from `confusion` counts [K,K]."""
    hit, wanted = counts.diagonal().double(), counts.sum(dim=1)
    right = torch.where(wanted > 0, hit / wanted, torch.nan)
    return Agreement(
        accuracy=float(hit.sum() / counts.sum()),
        class_accuracy=float(right.nanmean()),
        miou=float(class_iou(counts).nanmean()),
    )


def mean_iou(
    pred: Tensor, target: Tensor, num_classes: int, *, skip: tuple[int, ...] = ()
) -> float:
    """Return the mean IoU over the classes that occur in `pred` or `target`, NaN without any.

    `skip` names classes left out of the mean, such as the unknown class 0 of sparse maps.
    """
    iou = class_iou(confusion(pred, target, num_classes))
    keep = torch.tensor([i not in skip for i in range(num_classes)], device=iou.device)
    return float(iou[keep].nanmean())


def consistency(
    labels: Sequence[Tensor] | Tensor,
    encoder: MaskEncoder,
    labeler: Labeler,
    prior: Prior,
    *,
    batch: int = 8,
) -> float:
    """Return the mIoU between label maps and the labeler's maps of the pictures drawn from them.

    `labels` are maps [H,W] int64 of any sizes, or one tensor of them; all are compared together,
    at the labeler's size. For sparse maps the unknown class 0 does not count, and a cell holds
    the class that marks most of it, so that no mark is lost.
    """
    device = prior.mapping.w_avg.device
    maps = [label.to(device) for label in labels]
    ws = torch.cat([encode(label[None], encoder) for label in maps])
    check_codes(ws, prior)
    pred = label_samples(labeler, prior, ws, batch=batch)
    size = (pred.shape[1], pred.shape[2])
    if labeler.sparse:
        target = torch.stack([marks(label, labeler.num_classes, size) for label in maps])
    else:
        target = torch.cat([resize_label(label[None], size) for label in maps])
    skip = (0,) if labeler.sparse else ()
    return mean_iou(pred, target, labeler.num_classes, skip=skip)
