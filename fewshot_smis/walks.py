"""Walks to film: through styles, through layouts, and along a class that grows in a map.

The curve itself is `fewshot_smis.prior_figures.interpolate`, a spline through given codes.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.data import IGNORE, one_hot
from fewshot_smis.encoding import encode
from fewshot_smis.prior_figures import interpolate
from fewshot_smis.synthesis import mix_styles
from stylegan import Prior
from stylegan.errors import LabelError, ShapeError


class ClassWalk(NamedTuple):
    """Maps in which a class grows, and the codes on the way through them."""

    labels: Tensor  # [T,H,W] int64
    ws: Tensor  # [F,L,D], F = (T - 1) * frames + 1


def style_walk(
    ws_layout: Tensor,
    ws_style: Tensor,
    prior: Prior,
    *,
    frames: int,
    layers: str | Iterable[int] | None = None,
    alpha: float = 1.0,
    loop: bool = True,
) -> Tensor:
    """Lead N layouts [N,L,D] through M styles [M,L,D] together: codes [F,N,L,D].

    `frames` steps from style to style, see `interpolate`; the rest as in `mix_styles`.
    """
    path = interpolate(ws_style, frames, loop=loop)  # [F,L,D]
    return mix_styles(ws_layout, path, prior, layers=layers, alpha=alpha).transpose(0, 1)


def layout_walk(
    ws_layout: Tensor,
    ws_style: Tensor,
    prior: Prior,
    *,
    frames: int,
    layers: str | Iterable[int] | None = None,
    alpha: float = 1.0,
    loop: bool = True,
) -> Tensor:
    """Lead M styles [M,L,D] through N layouts [N,L,D] together: codes [F,M,L,D]."""
    path = interpolate(ws_layout, frames, loop=loop)  # [F,L,D]
    return mix_styles(path, ws_style, prior, layers=layers, alpha=alpha)


def grow_class(
    label: Tensor, class_id: int, pixels: int, *, over: Collection[int] | None = None
) -> Tensor:
    """Let a class of `label` [H,W] int64 grow by `pixels` on every side, or shrink if negative.

    It grows as a disc of that radius would, over the classes `over`, by default all; where it
    shrinks, the class that is nearest takes its place. Unknown pixels stay unknown.

    Raises:
        LabelError: The map does not hold the class, or holds nothing else to shrink into.
    """
    own = label == class_id
    if not own.any():
        held = sorted(set(label[label != IGNORE].tolist()))
        raise LabelError(f"the map holds no class {class_id} to grow; it holds {held}")
    if pixels >= 0:
        taken = (_near(own, pixels) > 0) & (label != IGNORE)
        if over is not None:
            taken &= torch.isin(label, torch.tensor(list(over), device=label.device))
        return torch.where(taken | own, class_id, label)
    given = own & (_near(~own, -pixels) > 0)
    rest = torch.where(own, IGNORE, label)
    if (rest == IGNORE).all():
        raise LabelError(f"the map holds nothing but class {class_id}, so it cannot shrink")
    return torch.where(given, _spread(rest, -pixels), label)


def _disc(radius: int, like: Tensor) -> Tensor:
    at = torch.arange(-radius, radius + 1, device=like.device)
    inside = at[:, None].square() + at[None, :].square() <= radius * radius
    return inside.float()[None, None]  # [1,1,2r+1,2r+1]


def _near(mask: Tensor, radius: int) -> Tensor:
    """Return how many pixels of `mask` [H,W] lie within `radius` of each pixel."""
    return F.conv2d(mask[None, None].float(), _disc(radius, mask), padding=radius)[0, 0].round()


def _spread(label: Tensor, times: int) -> Tensor:
    """Let the known classes of `label` [H,W] spread into unknown pixels, a ring at a time."""
    num = int(label[label != IGNORE].max()) + 1
    for _ in range(2 * times):  # a ring is a diamond, which a disc can be wider than
        votes = F.conv2d(
            one_hot(label[None], num).transpose(0, 1), _disc(1, label), padding=1
        )  # [K,1,H,W]
        most, which = votes[:, 0].max(dim=0)
        label = torch.where((label == IGNORE) & (most > 0.5), which, label)
    return label


@torch.no_grad()
def class_walk(
    label: Tensor,
    class_id: int,
    encoder: MaskEncoder,
    *,
    first: int,
    last: int,
    maps: int,
    frames: int,
    over: Collection[int] | None = None,
) -> ClassWalk:
    """Let a class of a map grow step by step, and lead a curve through the codes of the maps.

    Args:
        label: The map [H,W] int64.
        class_id: The class that grows.
        encoder: From maps to codes.
        first: Pixels by which it is grown in the first map; negative to shrink it.
        last: Pixels in the last map.
        maps: Number of maps T.
        frames: Steps from map to map.
        over: Classes it may grow over, by default all.

    Raises:
        LabelError: The map does not hold the class.
        ShapeError: There are less than two maps.
    """
    if maps < 2:
        raise ShapeError(f"a walk through {maps} maps; at least 2 are needed")
    sizes = torch.linspace(first, last, maps).round().long().tolist()
    labels = torch.stack([grow_class(label, class_id, size, over=over) for size in sizes])
    return ClassWalk(labels, interpolate(encode(labels, encoder), frames, loop=False))
