"""How well label maps agree, and how well drawn pictures keep the layout asked for."""

import torch
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.codes import check_codes
from fewshot_smis.data import IGNORE, resize_label
from fewshot_smis.encoding import encode
from fewshot_smis.labelers import Labeler, label_samples
from stylegan import Generator
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
    labels: Tensor, encoder: MaskEncoder, labeler: Labeler, prior: Generator, *, batch: int = 8
) -> float:
    """Return the mIoU between label maps and the labeler's maps of the pictures drawn from them.

    `labels` [N,H,W] int64; compared at the labeler's size, all maps together. For sparse maps
    the unknown class 0 does not count.
    """
    ws = encode(labels, encoder, batch=batch)
    check_codes(ws, prior)
    pred = label_samples(labeler, prior, ws, batch=batch)
    target = resize_label(labels, (pred.shape[1], pred.shape[2]))
    skip = (0,) if labeler.sparse else ()
    return mean_iou(pred, target, labeler.num_classes, skip=skip)
