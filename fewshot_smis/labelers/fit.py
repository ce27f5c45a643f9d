"""Fit a labeler to a few codes of the prior and the label maps of what they show."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fewshot_smis.codes import check_codes
from fewshot_smis.data import IGNORE, Classes, one_hot, resize_label
from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.prototypes import (
    PixelPrototypes,
    cell_prototypes,
    class_prototypes,
    coverage,
    point_prototypes,
)
from fewshot_smis.labelers.sparse import SparseLabeler
from stylegan import Prior
from stylegan.errors import ConfigError, LabelError, ShapeError
from stylegan.prior import nearest

KINDS = ("auto", "dense", "sparse")


def feature_resolution(prior: Prior, *, reference: bool = False) -> int:
    """Return the size of the features that labelers read: 64 px, as in the paper.

    In priors below 128 px it is half the picture's side: the last block's features hold colours
    rather than parts. `reference` takes the size nearest to 64 all the same. A prior without
    layers of that size, such as a small StyleGAN3, gives the nearest it has.
    """
    side = prior.img_resolution
    wanted = min(64, side if reference else max(side // 2, 4))
    return nearest(prior.synthesis.block_resolutions, wanted)


def fit_labeler(
    prior: Prior,
    ws: Tensor,
    labels: Tensor | Sequence[Tensor],
    classes: Classes,
    *,
    kind: str = "auto",
    resolution: int | None = None,
    reference: bool = False,
    topk: int = 3,
    threshold: float = 0.5,
    batch: int = 4,
) -> Labeler:
    """Fit a labeler to shots: codes of the prior and the label maps of their pictures.

    Args:
        prior: The generator that the codes belong to.
        ws: Codes of the shots [N,L,D].
        labels: Their maps, [N,H,W] or N maps [h,w] of any sizes, int64 ids.
        classes: The classes of the maps.
        kind: "dense", "sparse", or "auto", which follows `classes.sparse`.
        resolution: Feature size in px; None takes `feature_resolution`.
        reference: Equal the public reference pixel for pixel: maps are brought to the feature
            size by nearest sampling, and absent classes keep a zero prototype that may win.
            By default every labelled pixel counts, and absent classes never win.
        topk: Pixels that each sparse prototype claims.
        threshold: Cosine that a sparse claim must exceed.
        batch: Shots rendered at once.

    Raises:
        ConfigError: Unknown `kind`, or bad `topk` or `threshold`.
        ShapeError: The codes belong to another prior, or their number is not that of the maps.
        LabelError: An id outside `classes`, or not one labelled pixel.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of labeler '{kind}'; choose from {', '.join(KINDS)}")
    sparse = classes.sparse if kind == "auto" else kind == "sparse"
    check_codes(ws, prior)
    maps = list(labels)
    _check_maps(maps, len(ws), classes, sparse)
    size = feature_resolution(prior, reference=reference) if resolution is None else resolution
    feats = torch.cat([f.float() for f in _features(prior, ws, size, batch)])  # [N,C,h,w]
    maps = [m.to(feats.device) for m in maps]
    if not sparse:
        proto = class_prototypes(feats, _weights(maps, feats, classes, reference))
        return DenseLabeler(classes, proto, resolution=size, reference=reference)
    return SparseLabeler(
        classes,
        _pixels(maps, feats, classes, reference),
        resolution=size,
        topk=topk,
        threshold=threshold,
        reference=reference,
    )


@torch.no_grad()
def label_samples(
    labeler: Labeler,
    prior: Prior,
    ws: Tensor,
    size: int | tuple[int, int] | None = None,
    *,
    batch: int = 8,
) -> Tensor:
    """Label the pictures that the prior draws from `ws` [N,L,D], with its fixed noise.

    The maps [N,h,w] int64 have the labeler's feature size, or are brought to `size` by nearest
    sampling.
    """
    check_codes(ws, prior)
    feats = _features(prior, ws, labeler.resolution, batch)
    label = torch.cat([labeler({labeler.resolution: feat}) for feat in feats])
    return label if size is None else resize_label(label, size)


@torch.no_grad()
def _features(prior: Prior, ws: Tensor, resolution: int, batch: int) -> Iterator[Tensor]:
    for part in torch.split(ws, batch):
        yield prior.synthesis(part, feature_resolutions=(resolution,)).feats[resolution]


def _check_maps(maps: list[Tensor], codes: int, classes: Classes, sparse: bool) -> None:
    if len(maps) != codes:
        raise ShapeError(
            f"{codes} codes, but {len(maps)} label maps; each code needs the map of its picture"
        )
    num = classes.num_classes
    labelled = 0
    for i, label in enumerate(maps):
        known = label[label != IGNORE]
        bad = known[(known < 0) | (known >= num)]
        if len(bad):
            raise LabelError(
                f"label map {i} holds class id {int(bad[0])}, but there are only {num} classes "
                f"(0 to {num - 1}); add the class to classes.json or correct the map"
            )
        labelled += int((known != 0).sum()) if sparse else len(known)
    if labelled == 0:
        unknown = f"class 0 or {IGNORE}" if sparse else str(IGNORE)
        raise LabelError(
            f"not one pixel of the label maps is labelled (all are {unknown}, which mean unknown); "
            "draw at least one class in them"
        )


def _weights(maps: list[Tensor], feats: Tensor, classes: Classes, reference: bool) -> Tensor:
    """Return how much each feature pixel belongs to each class, [N,K,h,w]."""
    size = (feats.shape[2], feats.shape[3])
    num = classes.num_classes
    if reference:
        return one_hot(torch.cat([resize_label(m[None], size) for m in maps]), num)
    return torch.stack([coverage(m, num, size) for m in maps])


def _pixels(
    maps: list[Tensor], feats: Tensor, classes: Classes, reference: bool
) -> PixelPrototypes:
    """Return the labelled pixels of all shots."""
    size = (feats.shape[2], feats.shape[3])
    if reference:
        found = [
            cell_prototypes(feat, resize_label(m[None], size)[0])
            for feat, m in zip(feats, maps, strict=True)
        ]
    else:
        found = [
            point_prototypes(feat, m, classes.num_classes)
            for feat, m in zip(feats, maps, strict=True)
        ]
    return PixelPrototypes(torch.cat([p.proto for p in found]), torch.cat([p.ids for p in found]))
