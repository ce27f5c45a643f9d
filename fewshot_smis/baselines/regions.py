"""Regions of a label map: their edges, their mean features, and clusters of these (pix2pixHD).

A region is all pixels of one id: an instance where instances are numbered, else a class.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stylegan.errors import ShapeError
from stylegan.seeding import randint

UNKNOWN = -1
"""The id of pixels without a class."""
SMALLEST = 0.5
"""Regions below this weight, a sixty-fourth of the picture, are left out of the clusters."""


def class_ids(onehot: Tensor) -> Tensor:
    """Return the classes [N,H,W] of `onehot` [N,K,H,W], UNKNOWN where no plane is set."""
    return torch.where(onehot.amax(dim=1) > 0, onehot.argmax(dim=1), UNKNOWN)


def edges(ids: Tensor) -> Tensor:
    """Return planes [N,1,H,W], 1 where a pixel of `ids` [N,H,W] differs from one of its four."""
    down, right = ids[:, 1:] != ids[:, :-1], ids[:, :, 1:] != ids[:, :, :-1]
    found = torch.zeros_like(ids, dtype=torch.bool)
    found[:, 1:] |= down
    found[:, :-1] |= down
    found[:, :, 1:] |= right
    found[:, :, :-1] |= right
    return found[:, None].float()


class Regions(NamedTuple):
    """The regions of a batch, by sample and then by id."""

    ids: Tensor  # [R]
    means: Tensor  # [R,C] mean features
    sizes: Tensor  # [R] pixels
    place: Tensor  # [N,H,W] which region a pixel is of


def region_means(feat: Tensor, ids: Tensor) -> Regions:
    """Average `feat` [N,C,H,W] over each region of each sample of `ids` [N,H,W].

    Raises:
        ShapeError: Features and ids are of other pixels.
    """
    if feat.shape[:1] + feat.shape[2:] != ids.shape:
        raise ShapeError(
            f"features {list(feat.shape)} and ids {list(ids.shape)} are not of the same pixels"
        )
    sample = torch.arange(len(ids), device=ids.device)[:, None, None].expand_as(ids)
    pairs = torch.stack([sample, ids], dim=-1).flatten(0, 2)
    found, place = torch.unique(pairs, dim=0, return_inverse=True)
    sizes = place.bincount(minlength=len(found))
    wide = torch.promote_types(feat.dtype, torch.float32)  # half precision cannot add many pixels
    pixels = feat.movedim(1, -1).flatten(0, 2).to(wide)  # [N H W,C]
    sums = torch.zeros(len(found), feat.shape[1], dtype=wide, device=feat.device)
    means = (sums.index_add(0, place, pixels) / sizes[:, None]).to(feat.dtype)
    return Regions(found[:, 1], means, sizes, place.view_as(ids))


def instance_average(feat: Tensor, ids: Tensor) -> Tensor:
    """Return `feat` [N,C,H,W] with every pixel at the mean of its region (section 3.4)."""
    regions = region_means(feat, ids)
    return regions.means[regions.place].movedim(-1, 1)


class Rows(NamedTuple):
    """What the clusters are made of: one row a region."""

    classes: Tensor  # [R] int64
    feats: Tensor  # [R,C]
    weights: Tensor  # [R] pixels in thirty-seconds of the picture


def region_rows(feat: Tensor, ids: Tensor) -> Rows:
    """Return the mean of `feat` [N,C,H,W] over each region of `ids` [N,H,W], by sample.

    Ids below 1000 are classes; others number the instances of class id // 1000, as in Cityscapes.
    Rows follow the classes. Pixels of UNKNOWN class give none.
    """
    regions = region_means(feat, ids)
    classes = torch.where(regions.ids < 1000, regions.ids, regions.ids // 1000)
    sample_of = torch.zeros(len(classes), dtype=torch.int64, device=ids.device)
    sample_of[regions.place.flatten(1)] = torch.arange(len(ids), device=ids.device)[:, None]
    order = torch.argsort(sample_of * (classes.max() + 1) + classes, stable=True)
    order = order[classes[order] != UNKNOWN]
    unit = ids.shape[1] * ids.shape[2] // 32
    return Rows(classes[order].long(), regions.means[order], regions.sizes[order] / unit)


def k_means(rows: Tensor, k: int, gen: torch.Generator, *, rounds: int = 50) -> Tensor:
    """Return at most `k` centres [M,C] of `rows` [R,C], each the mean of the rows nearest to it.

    The first centres are rows drawn from `gen`, each the farthest of those not yet near one.
    """
    first = int(randint(len(rows), (1,), gen))
    centres = rows[first : first + 1]
    while len(centres) < min(k, len(rows)):
        distance = torch.cdist(rows, centres).amin(dim=1)
        if float(distance.max()) == 0:
            break  # fewer different rows than centres
        farthest = int(distance.argmax())
        centres = torch.cat([centres, rows[farthest : farthest + 1]])
    for _ in range(rounds):
        nearest = torch.cdist(rows, centres).argmin(dim=1)
        moved = torch.stack([rows[nearest == m].mean(dim=0) for m in range(len(centres))])
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


class FeatureClusters(nn.Module):
    """Centres of the features that each class had in the training pictures.

    Until `fit` is called every class has one centre, at 0.
    """

    centres: Tensor  # [K,M,C]
    counts: Tensor  # [K] how many of the M are in use

    def __init__(self, num_classes: int, features: int, *, k: int = 10) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(num_classes, k, features))
        self.register_buffer("counts", torch.ones(num_classes, dtype=torch.int64))

    def fit(self, rows: Rows, gen: torch.Generator) -> None:
        """Cluster `rows` class by class, small regions left out; classes without any keep 0."""
        large = rows.weights > SMALLEST
        for c, centres in enumerate(self.centres):
            feats = rows.feats[large & (rows.classes == c)]
            if len(feats) == 0:
                continue
            found = k_means(feats, centres.shape[0], gen)
            centres[: len(found)] = found
            self.counts[c] = len(found)

    def draw(self, onehot: Tensor, gen: torch.Generator) -> Tensor:
        """Return features [N,C,H,W] for `onehot` [N,K,H,W]: a random centre for each class."""
        num, classes = onehot.shape[:2]
        draws = randint(2**31, (num, classes), gen).to(self.counts.device)
        picks = self.centres[torch.arange(classes, device=draws.device), draws % self.counts]
        return torch.einsum("nkhw,nkc->nchw", onehot, picks)
