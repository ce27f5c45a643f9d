"""Distance of two sets of pictures without any network: sliced Wasserstein of patches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import ShapeError
from stylegan.seeding import rand, randn

PATCH = 7
SMALLEST = 16


def sliced_wasserstein(
    a: Tensor, b: Tensor, gen: torch.Generator, *, patches: int = 16, directions: int = 128
) -> dict[int, float]:
    """Return the distance of patches at each size of a Laplacian pyramid, times 1,000.

    From Progressive GAN (Karras et al. 2018, section 5): 7 px patches at random places of each
    level, normalised by channel, are compared along random directions; the mean distance of the
    sorted projections is the sliced Wasserstein distance. Fine levels compare texture, coarse ones
    shapes and colours, and no network has a say in what is alike.

    Args:
        a: Pictures [N, C, H, W].
        b: As many pictures of the same size.
        gen: Source of places and directions.
        patches: Places a picture.
        directions: Directions to project on.

    Returns:
        {height of the level: distance}, from the full size down to 16 px.

    Raises:
        ShapeError: The sets differ in shape, or pictures are below 16 px.
    """
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[2:]) < SMALLEST:
        raise ShapeError(
            f"pictures {list(a.shape)} and {list(b.shape)}: give as many of one size, "
            f"at least {SMALLEST} px"
        )
    found = {}
    while min(a.shape[2:]) >= SMALLEST:
        coarse_a, coarse_b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        places = rand((patches, 2), gen)
        width = a.shape[1] * PATCH**2
        axes = F.normalize(randn((width, directions), gen), dim=0)
        cut_a, cut_b = _patches(a, coarse_a, places), _patches(b, coarse_b, places)
        gaps = (cut_a @ axes).sort(dim=0).values - (cut_b @ axes).sort(dim=0).values
        found[a.shape[2]] = 1000 * float(gaps.abs().mean())
        a, b = coarse_a, coarse_b
    return found


def _patches(x: Tensor, coarse: Tensor, places: Tensor) -> Tensor:
    """Cut normalised patches [M, C * 49] out of what `coarse` leaves of `x`."""
    if min(coarse.shape[2:]) >= SMALLEST:
        x = x - F.interpolate(coarse, x.shape[2:], mode="bilinear")
    room = torch.tensor([x.shape[2] - PATCH + 1, x.shape[3] - PATCH + 1])
    corners = (places * room).long().tolist()
    cut = torch.cat([x[:, :, i : i + PATCH, j : j + PATCH] for i, j in corners])
    cut = cut.flatten(2)  # [M, C, 49]
    std, mean = torch.std_mean(cut, dim=(0, 2), keepdim=True)
    return ((cut - mean) / std.clamp(min=1e-8)).flatten(1)
