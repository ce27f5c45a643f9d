"""Fit a labeler to a few codes of the prior and the label maps of what they show."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewshot_smis.codes import check_codes
from fewshot_smis.data import IGNORE, Classes, one_hot, resize_label
from fewshot_smis.data.images import as_size
from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.linear import HeadSettings, LinearLabeler, fit_heads, redrawn
from fewshot_smis.labelers.prototypes import (
    PixelPrototypes,
    cell_prototypes,
    class_prototypes,
    coverage,
    hypercolumns,
    point_prototypes,
)
from fewshot_smis.labelers.sparse import SparseLabeler
from fewshot_smis.tuning import tune_prior
from stylegan import Prior, prepare
from stylegan.errors import ConfigError, LabelError, ShapeError
from stylegan.prior import nearest
from stylegan.seeding import stream

KINDS = ("auto", "dense", "sparse")
METHODS = ("auto", "prototypes", "columns", "linear")
TUNING_LR = 1e-3  # of Adam; more steps or three times the rate gain little
LARGEST_HEAD = 256  # px; larger features cost memory and hold texture


def feature_resolution(prior: Prior, *, reference: bool = False) -> int:
    """Return the size of the features that labelers read: 64 px, as in the paper.

    In priors below 128 px it is half the picture's side: the last block's features hold colours
    rather than parts. `reference` takes the size nearest to 64 all the same. A prior without
    layers of that size, such as a small StyleGAN3, gives the nearest it has.
    """
    side = prior.img_resolution
    wanted = min(64, side if reference else max(side // 2, 4))
    return nearest(prior.synthesis.block_resolutions, wanted)


def chosen_method(
    classes: Classes, *, kind: str = "auto", method: str = "auto", one_size: bool = False
) -> str:
    """Return the method that `fit_labeler` takes: "prototypes", "columns" or "linear".

    `one_size` says that a reference or a feature resolution is asked for.

    Raises:
        ConfigError: Unknown `kind` or `method`, or a method that does not fit the kind.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method '{method}'; choose from {', '.join(METHODS)}")
    sparse = _is_sparse(kind, classes)
    best = "prototypes" if one_size else "columns" if sparse else "linear"
    if method in ("columns", "linear") and method != best:
        maps = f"{'sparse' if sparse else 'dense'} maps are"
        why = "a reference or a feature resolution is" if one_size else maps
        suited = "prototypes only" if one_size else f"prototypes or {best}"
        raise ConfigError(f"{why} for {suited}; leave method at auto, or use prototypes")
    return best if method == "auto" else method


def _is_sparse(kind: str, classes: Classes) -> bool:
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of labeler '{kind}'; choose from {', '.join(KINDS)}")
    return classes.sparse if kind == "auto" else kind == "sparse"


def fit_labeler(
    prior: Prior,
    ws: Tensor,
    labels: Tensor | Sequence[Tensor],
    classes: Classes,
    *,
    kind: str = "auto",
    method: str = "auto",
    resolution: int | None = None,
    reference: bool = False,
    topk: int = 3,
    threshold: float = 0.5,
    linear: HeadSettings | None = None,
    images: Tensor | None = None,
    seed: int = 0,
    batch: int = 4,
    on_report: Callable[[int, float], None] | None = None,
) -> Labeler:
    """Fit a labeler to shots: codes of the prior and the label maps of their pictures.

    Args:
        prior: The generator that the codes belong to.
        ws: Codes of the shots [N,L,D].
        labels: Their maps, [N,H,W] or N maps [h,w] of any sizes, int64 ids.
        classes: The classes of the maps.
        kind: "dense", "sparse", or "auto", which follows `classes.sparse`.
        method: "prototypes", the paper's; "linear", for dense maps; "columns", prototypes of all
            sizes up to 64 px, for sparse maps; or "auto", the better one: linear or columns,
            unless `reference` or `resolution` asks for prototypes.
        resolution: Feature size of prototypes in px; None takes `feature_resolution`.
        reference: Equal the public reference pixel for pixel: maps are brought to the feature
            size by nearest sampling, and absent classes keep a zero prototype that may win.
            By default every labelled pixel counts, and absent classes never win.
        topk: Pixels that each sparse prototype claims.
        threshold: Cosine that a sparse claim must exceed.
        linear: How linear heads are fitted; None takes the defaults.
        images: For linear heads, the shots themselves [N,3,H,W] in [-1,1], which the codes draw
            only nearly: the heads read the features of a copy of the prior that draws them better;
            `prior` must be as it was loaded then, not prepared.
        seed: Of the views and members of linear heads.
        batch: Shots rendered at once.
        on_report: Called after each step of tuning that copy with its number and its loss.

    Raises:
        ConfigError: Unknown `kind` or `method`, a method that does not fit the kind, or bad
            `topk` or `threshold`; `images` for other than linear heads; a prepared prior that is
            to be tuned.
        ShapeError: The codes belong to another prior, or their number is not that of the maps
            or pictures.
        LabelError: An id outside `classes`, or not one labelled pixel.
    """
    sparse = _is_sparse(kind, classes)
    one_size = reference or resolution is not None
    method = chosen_method(classes, kind=kind, method=method, one_size=one_size)
    if images is not None and method != "linear":
        raise ConfigError(
            f"images tune the prior for linear heads, but the method is {method}; leave them out, "
            "as `chosen_method` tells beforehand"
        )
    check_codes(ws, prior)
    maps = list(labels)
    _check_maps(maps, len(ws), classes, sparse)
    maps = [m.to(ws.device) for m in maps]
    if method == "linear":
        settings = linear or HeadSettings()
        if images is not None and settings.tuning > 0:
            prior = _tuned(prior, ws, images, settings.tuning, seed, on_report)
        return _fit_linear(prior, ws, maps, classes, settings, seed, batch)
    size = feature_resolution(prior, reference=reference) if resolution is None else resolution
    smaller = [r for r in prior.synthesis.block_resolutions if r < size]
    sizes = (*smaller, size) if method == "columns" else (size,)
    read = _features(prior, ws, sizes, batch)
    feats = read[size] if len(sizes) == 1 else hypercolumns(read)  # [N,C,h,w]
    if not sparse:
        proto = class_prototypes(feats, _weights(maps, feats, classes, reference))
        return DenseLabeler(classes, proto, resolution=size, reference=reference)
    return SparseLabeler(
        classes,
        _pixels(maps, feats, classes, reference),
        resolution=size,
        smaller=sizes[:-1],
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

    The maps [N,h,w] int64 have the labeler's feature size, or are drawn at `size`.
    """
    check_codes(ws, prior)
    at = None if size is None else as_size(size)
    parts = torch.split(ws, batch)
    return torch.cat([labeler(_features(prior, w, labeler.resolutions), at) for w in parts])


@torch.no_grad()
def _features(
    prior: Prior,
    ws: Tensor,
    resolutions: tuple[int, ...],
    batch: int = 8,
    gen: torch.Generator | None = None,
) -> dict[int, Tensor]:
    """Return the features [N,C,h,w] float32 of each size; with `gen` under random noise."""
    noise = "const" if gen is None else "random"
    parts = [
        prior.synthesis.features(w, resolutions, noise_mode=noise, generator=gen)
        for w in torch.split(ws, batch)
    ]
    return {r: torch.cat([part[r].float() for part in parts]) for r in resolutions}


def head_resolutions(prior: Prior) -> tuple[int, ...]:
    """Return the sizes of the features that linear heads read: all up to 256 px."""
    sizes = prior.synthesis.block_resolutions
    return tuple(r for r in sizes if r <= LARGEST_HEAD) or (min(sizes),)


def _tuned(
    prior: Prior,
    ws: Tensor,
    images: Tensor,
    steps: int,
    seed: int,
    on_report: Callable[[int, float], None] | None,
) -> Prior:
    """Return a copy of the prior, tuned `steps` a shot, that draws the shots better.

    Its features lie where the parts of the shots are, and a few steps hardly change what they mean,
    so that heads fitted to them label samples of the prior itself.
    """
    gen = stream(seed, "labeler/tuning", ws.device)
    with torch.enable_grad():
        tuned = tune_prior(
            prior,
            ws,
            images,
            gen=gen,
            steps=steps * len(ws),
            lr=TUNING_LR,
            locality=0.0,
            on_report=on_report,
        )
    return prepare(tuned)


@torch.no_grad()
def _fit_linear(
    prior: Prior,
    ws: Tensor,
    maps: list[Tensor],
    classes: Classes,
    settings: HeadSettings,
    seed: int,
    batch: int,
) -> LinearLabeler:
    """Fit linear heads to the shots and to `settings.views` redrawn views of each."""
    sizes = head_resolutions(prior)
    gen = stream(seed, "labeler/views", ws.device)
    drawn = [_features(prior, ws, sizes, batch)]
    for _ in range(settings.views):
        drawn.append(_features(prior, redrawn(prior, ws, gen), sizes, batch, gen))
    feats = {r: torch.cat([f[r] for f in drawn]) for r in sizes}
    largest = feats[max(sizes)]
    size = (largest.shape[2], largest.shape[3])
    share = torch.stack([coverage(m, classes.num_classes, size) for m in maps])  # [N,K,H,W]
    share = share.repeat(len(drawn), 1, 1, 1)
    members = stream(seed, "labeler/members", ws.device)
    per_shot = dataclasses.replace(settings, decay=settings.decay / len(maps))
    heads = fit_heads(feats, share, per_shot, members)
    return LinearLabeler(classes, heads, drop=settings.drop)


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
