"""How different the pictures of one label map are from each other: MS-SSIM and distances.

OASIS draws 20 pictures a map and reports the mean over all pairs: of MS-SSIM, lower for more
diverse pictures, and of LPIPS, higher for more diverse ones.
"""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from stylegan.errors import BackendError, ShapeError

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales of MS-SSIM, the full size first (Wang et al. 2003)."""
WINDOW = 11

Compare = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures [N,3,H,W] in [-1,1] -> N numbers."""


def scales(size: tuple[int, int]) -> int:
    """Return at how many scales pictures of `size` (H, W) can be compared: five from 161 px on.

    Raises:
        ShapeError: Not even at one.

    >>> scales((256, 256)), scales((128, 192)), scales((64, 64))
    (5, 4, 3)
    """
    fitting = [n for n in range(1, 6) if min(size) > (WINDOW - 1) << (n - 1)]
    if not fitting:
        raise ShapeError(f"pictures of {size[0]} x {size[1]}: MS-SSIM needs {WINDOW} px")
    return fitting[-1]


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the multi-scale structural similarity [N] of `a` and `b` [N,3,H,W] in [-1,1].

    Pictures below 161 px have no room for the fifth scale; the weights of those they have room
    for (see `scales`) are then brought to a sum of 1.

    Raises:
        ShapeError: The shapes differ, or a side is below 11 px.
        BackendError: torchmetrics is not installed.
    """
    if a.shape != b.shape or a.ndim != 4:
        raise ShapeError(f"MS-SSIM: shapes {list(a.shape)} and {list(b.shape)} differ")
    used = SCALE_WEIGHTS[: scales((a.shape[2], a.shape[3]))]
    try:
        image = importlib.import_module("torchmetrics.functional.image")
    except ImportError as error:
        raise BackendError(
            "MS-SSIM needs torchmetrics: pip install 'fewshot-smis[metrics]'"
        ) from error
    values = image.multiscale_structural_similarity_index_measure(
        (a.float() + 1) / 2,
        (b.float() + 1) / 2,
        reduction="none",
        data_range=1.0,
        betas=tuple(weight / sum(used) for weight in used),
        normalize="relu",
    )
    return torch.as_tensor(values).reshape(len(a))


def pairwise(img: Tensor, compare: Compare, *, batch: int = 32) -> float:
    """Return the mean of `compare` over all pairs of the pictures `img` [S,3,H,W] of one map.

    Raises:
        ShapeError: There are fewer than two pictures.
    """
    if len(img) < 2:
        raise ShapeError(f"{len(img)} pictures of a map; diversity needs at least two")
    pairs = torch.combinations(torch.arange(len(img)), 2)
    found = [compare(img[part[:, 0]], img[part[:, 1]]) for part in torch.split(pairs, batch)]
    return float(torch.cat(found).mean())


def pairwise_squares(vectors: Tensor) -> float:
    """Return the mean squared distance over all pairs of `vectors` [S,D], at the cost of one pass.

    It is twice their variance, added up over the axes.

    Raises:
        ShapeError: There are fewer than two vectors.
    """
    if len(vectors) < 2:
        raise ShapeError(f"{len(vectors)} pictures of a map; diversity needs at least two")
    return float(2 * vectors.var(dim=0).sum())
