"""How badly a picture fits a drawn map, by the labeler's features: a loss with a gradient.

The labels of a picture have no gradient, but what they are read from has. Prototypes say how
unlike a pixel is what its drawn class looks like; linear heads say how improbable that class is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.data import IGNORE, resize_label
from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.linear import LinearLabeler
from fewshot_smis.labelers.prototypes import cosines, marks, unit
from fewshot_smis.labelers.sparse import SparseLabeler
from stylegan.errors import LabelError


class Drawn(NamedTuple):
    """Maps on the grid of a labeler, and which of their pixels it can judge."""

    label: Tensor  # [N,h,w] int64
    known: Tensor  # [N,h,w] bool: drawn, and of a class that a shot holds


def drawn_on_grid(
    labels: Tensor | Sequence[Tensor], labeler: Labeler, size: tuple[int, int]
) -> Drawn:
    """Bring drawn maps, [N,H,W] or N maps [h,w] of any sizes, to the grid (h, w) of a labeler.

    Of sparse maps no mark is lost; dense ones are sampled.

    Raises:
        LabelError: An id that the labeler does not know, or a map without a pixel to judge.
    """
    num = labeler.num_classes
    for label in labels:
        outside = label[((label < 0) | (label >= num)) & (label != IGNORE)]
        if len(outside):
            raise LabelError(
                f"a label map holds class id {int(outside[0])}, but the labeler knows {num} "
                f"classes (0 to {num - 1}); correct the map or fit the labeler with the class"
            )
    drawn = on_grid(labels, labeler, size)
    empty = (~drawn.known.flatten(1).any(dim=1)).nonzero()
    if len(empty):
        raise LabelError(
            f"label map {int(empty[0])} holds no class that a labelled picture shows, so nothing "
            "in it can be compared; draw one of the classes the labeler was fitted to"
        )
    return drawn


def on_grid(labels: Tensor | Sequence[Tensor], labeler: Labeler, size: tuple[int, int]) -> Drawn:
    """Bring maps to a grid as `drawn_on_grid` does, without its checks: pseudo labels are valid."""
    num = labeler.num_classes
    if labeler.sparse:
        grid = torch.stack([marks(label, num, size) for label in labels])
    else:
        grid = torch.cat([resize_label(label[None], size) for label in labels])
    present = present_classes(labeler).to(grid.device)
    if labeler.sparse:
        present[0] = False
    return Drawn(grid, (grid != IGNORE) & present[grid.clamp(max=num - 1)])


def present_classes(labeler: Labeler) -> Tensor:
    """Return which classes a shot holds, [K] bool."""
    if isinstance(labeler, LinearLabeler):
        return labeler.present.clone()
    return mean_prototypes(labeler).abs().sum(dim=1) > 0


def mean_prototypes(labeler: Labeler) -> Tensor:
    """Return one unit vector a class, [K,C], of a labeler of prototypes; 0 for absent classes."""
    if isinstance(labeler, DenseLabeler):
        return labeler.proto
    if isinstance(labeler, SparseLabeler):
        proto = labeler.proto
        total = proto.new_zeros(labeler.num_classes, proto.shape[1])
        return unit(total.index_add(0, labeler.ids, proto))
    raise TypeError(f"a {labeler.kind} labeler has no prototypes")


def mismatch(labeler: Labeler, feats: dict[int, Tensor], drawn: Drawn) -> Tensor:
    """Return how badly each pixel fits the class drawn there, [N,h,w]; 0 where none is known.

    For prototypes 1 - cosine of the feature and the class's mean prototype, in [0, 2] (sparse
    control, Endo 2022); for linear heads the cross-entropy of the class, in nats.
    """
    ids = drawn.label.clamp(max=labeler.num_classes - 1)[:, None]  # [N,1,h,w]
    if isinstance(labeler, LinearLabeler):
        size = (ids.shape[2], ids.shape[3])
        cost = -F.log_softmax(labeler.scores(feats, size), dim=1)
    else:
        cost = 1 - cosines(labeler.likened(feats), mean_prototypes(labeler))
    return torch.where(drawn.known, cost.gather(1, ids)[:, 0], 0.0)


def mean_mismatch(labeler: Labeler, feats: dict[int, Tensor], drawn: Drawn) -> Tensor:
    """Return the mean of `mismatch` over the known pixels of each map, [N]."""
    total = mismatch(labeler, feats, drawn).sum(dim=(1, 2))
    return total / drawn.known.sum(dim=(1, 2)).clamp(min=1)


def class_mismatch(labeler: Labeler, feats: dict[int, Tensor], drawn: Drawn) -> Tensor:
    """Return the mean of `mismatch` over the known pixels of each class, averaged over classes.

    A scalar, over all maps together. An eye counts as much as the hair, as it does in mIoU; 0
    where nothing is known.
    """
    cost = mismatch(labeler, feats, drawn)
    one = Drawn(drawn.label.flatten(0, 1)[None], drawn.known.flatten(0, 1)[None])
    return _class_means(cost.flatten(0, 1)[None], one, labeler.num_classes)[0]


def class_mismatches(labeler: Labeler, feats: dict[int, Tensor], drawn: Drawn) -> Tensor:
    """Return `class_mismatch` of each map by itself, [N]."""
    return _class_means(mismatch(labeler, feats, drawn), drawn, labeler.num_classes)


def _class_means(cost: Tensor, drawn: Drawn, num_classes: int) -> Tensor:
    """Average costs [N,h,w] over the known pixels of each class, then over classes: [N]."""
    num = len(cost)
    maps = torch.arange(num, device=cost.device)[:, None, None] * num_classes
    ids = (drawn.label + maps)[drawn.known]  # of a class of a map
    count = torch.bincount(ids, minlength=num * num_classes).view(num, num_classes)
    total = cost.new_zeros(num * num_classes).index_add(0, ids, cost[drawn.known])
    means = total.view(num, num_classes) / count.clamp(min=1)
    return means.sum(dim=1) / (count > 0).sum(dim=1).clamp(min=1)
