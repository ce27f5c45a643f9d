"""The few-shot labelling method as formulas: prototypes from a few labelled feature maps.

A feature map of the prior knows what it shows: pixels of one part of a face, say, point in
similar directions in feature space, in every sample. So a few labelled maps are enough to
label any sample by cosine similarity.

* Dense maps: one prototype a class, its masked average over the shots that hold it.
* Sparse maps (landmarks, scribbles): every labelled pixel is a prototype and claims the
  `topk` target pixels most similar to it. The paper reads features of 64 px; by default those of
  all smaller sizes are read as well, see `hypercolumns`.

Legend: N samples or shots, K classes, C channels, h x w feature pixels, P pixel prototypes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.data import IGNORE

EPS = 1e-8
MAX_COSINES = 2**21  # cosines held at once: bounds the memory of the sparse labeler


class PixelPrototypes(NamedTuple):
    """Unit vectors of labelled pixels, `proto` [P,C], and their class ids, `ids` [P] int64."""

    proto: Tensor
    ids: Tensor


def unit(x: Tensor, dim: int = 1) -> Tensor:
    """Divide `x` by its norm along `dim`; zero vectors stay zero."""
    return x / (x.norm(dim=dim, keepdim=True) + EPS)


def coverage(label: Tensor, num_classes: int, size: tuple[int, int]) -> Tensor:
    """Return the share of each cell of an h x w grid that each class covers, [K,h,w] in [0,1].

    `label` [H,W] int64 ids; IGNORE counts for no class. Nothing is lost to sampling: a class
    of a single pixel still covers a part of its cell.
    """
    label = _at_least(label, size)
    cell = _cell_index(label, size)
    cells = size[0] * size[1]
    known = label != IGNORE
    flat = (label * cells + cell)[known]
    count = torch.bincount(flat, minlength=num_classes * cells).view(num_classes, *size)
    total = torch.bincount(cell.flatten(), minlength=cells).view(size)
    return count.float() / total.float()


def marks(label: Tensor, num_classes: int, size: tuple[int, int]) -> Tensor:
    """Bring a sparse map [H,W] to `size`: a cell takes the class that marks most of it, or 0."""
    share = coverage(label, num_classes, size)[1:]  # [K-1,h,w]
    most, which = share.max(dim=0)
    return torch.where(most > 0, which + 1, 0)


def masked_average(feat: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of the features under each class, [N,K,C]; 0 where there is none.

    `feat` [N,C,h,w]; `weight` [N,K,h,w] in [0,1]: a one-hot label map or its coverage.
    """
    total = torch.einsum("nchw,nkhw->nkc", feat, weight)
    mass = weight.sum(dim=(2, 3)).unsqueeze(2)  # [N,K,1]
    return torch.where(mass > 0, total / mass.clamp(min=torch.finfo(mass.dtype).tiny), 0.0)


def class_prototypes(feat: Tensor, weight: Tensor) -> Tensor:
    """Return one unit vector a class, [K,C]; zero for a class that no shot holds.

    Each shot that holds a class counts equally, whatever its number of pixels.
    `feat` [N,C,h,w] of the shots; `weight` [N,K,h,w] as for `masked_average`.
    """
    mean = masked_average(feat, weight)  # [N,K,C]
    holds = (weight.sum(dim=(2, 3)) > 0).to(mean.dtype)  # [N,K]
    shots = holds.sum(dim=0).clamp(min=1).unsqueeze(1)  # [K,1]
    return unit((mean * holds.unsqueeze(2)).sum(dim=0) / shots)


def cosines(feat: Tensor, proto: Tensor) -> Tensor:
    """Return the cosine of every pixel of `feat` [N,C,h,w] with every `proto` [K,C]: [N,K,h,w]."""
    return torch.einsum("nchw,kc->nkhw", unit(feat), proto)


def hypercolumns(feats: Mapping[int, Tensor]) -> Tensor:
    """Set the features of several sizes side by side on the largest grid, [N,C,h,w].

    Each size's are unit vectors, enlarged bilinearly, so that a cosine of columns is the mean of
    the cosines of their sizes. Large sizes know what a pixel shows, small ones where in the whole
    it is: 64 px features alone tell two points of a jaw apart badly.
    """
    largest = feats[max(feats)]
    size = (largest.shape[2], largest.shape[3])
    columns = []
    for r in sorted(feats):
        feat = unit(feats[r].float())
        if feat.shape[2:] != largest.shape[2:]:
            feat = unit(F.interpolate(feat, size, mode="bilinear", align_corners=False))
        columns.append(feat)
    return torch.cat(columns, dim=1)


def cell_prototypes(feat: Tensor, label: Tensor) -> PixelPrototypes:
    """Take every labelled feature pixel of one shot as a prototype.

    `feat` [C,h,w]; `label` [h,w] on the same grid, 0 and IGNORE unknown.
    """
    known = (label != 0) & (label != IGNORE)
    return PixelPrototypes(unit(feat[:, known].T), label[known])


def point_prototypes(feat: Tensor, label: Tensor, num_classes: int) -> PixelPrototypes:
    """Take a prototype for every class in every feature cell that holds a labelled pixel.

    `feat` [C,h,w]; `label` [H,W] at its own size, 0 and IGNORE unknown. The feature is read
    bilinearly at the centre of the class's pixels in the cell. A cell covered by one class
    thus gives its own feature; dots smaller than a cell are all kept, and two classes in one
    cell get prototypes of their own.
    """
    size = (feat.shape[1], feat.shape[2])
    label = _at_least(label, size)
    cell = _cell_index(label, size)
    known = (label != 0) & (label != IGNORE)
    y, x = torch.nonzero(known, as_tuple=True)
    cells = size[0] * size[1]
    group, member = torch.unique(label[known] * cells + cell[known], return_inverse=True)
    count = torch.bincount(member, minlength=len(group)).float()
    height, width = label.shape
    y_mean = torch.bincount(member, weights=y + 0.5, minlength=len(group)).float() / count
    x_mean = torch.bincount(member, weights=x + 0.5, minlength=len(group)).float() / count
    grid = torch.stack([x_mean / width * 2 - 1, y_mean / height * 2 - 1], dim=1)  # [P,2]
    read = F.grid_sample(
        feat[None],
        grid[None, None].to(feat.dtype),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )  # [1,C,1,P]
    return PixelPrototypes(unit(read[0, :, 0].T), torch.div(group, cells, rounding_mode="floor"))


def claims(
    feat: Tensor, prototypes: PixelPrototypes, num_classes: int, *, topk: int, threshold: float
) -> Tensor:
    """Let each prototype claim its `topk` most similar pixels, and return the scores [N,K,h,w].

    A score is the best cosine among the prototypes of the class that claimed the pixel, and
    0 where none did. Claims count only if their cosine is above `threshold` and above 0.
    Among equal cosines a prototype takes the first pixels in reading order.
    `feat` [N,C,h,w] with h * w >= topk.
    """
    num, channels, height, width = feat.shape
    pixels = height * width
    target = unit(feat).reshape(num, channels, pixels)
    score = feat.new_zeros(num, num_classes * pixels)
    rows = max(1, MAX_COSINES // (num * pixels))
    parts = (torch.split(part, rows) for part in prototypes)
    for proto, ids in zip(*parts, strict=True):
        cosine = torch.einsum("pc,ncx->npx", proto.to(target.dtype), target)
        best, pixel = first_topk(cosine, topk)  # [N,P,topk]
        best = torch.where(best > max(threshold, 0.0), best, 0.0)
        place = ids.view(1, -1, 1) * pixels + pixel
        score.scatter_reduce_(1, place.flatten(1), best.flatten(1), reduce="amax")
    return score.view(num, num_classes, height, width)


def first_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest values of each row of `x` [...,X], and their indices, both [...,k].

    `torch.topk`, but where more values equal the last one taken than there is room for, those
    of the lowest indices are taken if they are positive.
    """
    if k == x.shape[-1]:
        return x.topk(k, dim=-1)
    value, index = x.topk(k + 1, dim=-1)
    tied = (value[..., k - 1] == value[..., k]) & (value[..., k] > 0)
    value, index = value[..., :k].contiguous(), index[..., :k].contiguous()
    if tied.any():
        order = x[tied].sort(dim=-1, descending=True, stable=True)
        value[tied], index[tied] = order.values[:, :k], order.indices[:, :k]
    return value, index


def _at_least(label: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat pixels of `label` [H,W] until no side is smaller than `size`."""
    height, width = (max(a, b) for a, b in zip(label.shape, size, strict=True))
    y = torch.arange(height, device=label.device) * label.shape[0] // height
    x = torch.arange(width, device=label.device) * label.shape[1] // width
    return label[y][:, x]


def _cell_index(label: Tensor, size: tuple[int, int]) -> Tensor:
    """Return for each pixel of `label` [H,W] the flat index of its cell in the h x w grid."""
    y = torch.arange(label.shape[0], device=label.device) * size[0] // label.shape[0]
    x = torch.arange(label.shape[1], device=label.device) * size[1] // label.shape[1]
    return y[:, None] * size[1] + x[None, :]
