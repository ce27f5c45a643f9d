"""Edit a photograph by its label map: where the map was changed, and nowhere else.

The photograph is inverted and the labeler draws its map. The user changes the map, and the code
is optimised until the labeler's map of the picture is the changed one, while outside the change
the picture stays the photograph (EditGAN, Ling et al. 2021). Only the layers of the layout move:
with the others a labeler is easily talked into a class by colours that are none. What is drawn
inside is then blended into the photograph. The difference of the codes is a direction that edits
other photographs.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.codes import check_codes
from fewshot_smis.data import resize_image, resize_label
from fewshot_smis.inversion import CodeSearch, InversionSettings, w_spread
from fewshot_smis.labelers import Labeler
from fewshot_smis.labelers.mismatch import Drawn, drawn_on_grid, mean_mismatch
from fewshot_smis.perceptual import PerceptualDistance
from fewshot_smis.refinement import layout_layers
from fewshot_smis.synthesis import parse_layers
from stylegan import Prior
from stylegan.errors import ConfigError, LabelError, ShapeError

VISIBLE = 0.15  # difference of colours, out of 2, that counts as a change
MARGIN = 0.04  # of the picture's side: how far around a change the picture is free


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """How an edit is optimised; the weights are those of the terms of its loss."""

    steps: int = 150
    lr: float = 0.05
    map_weight: float = 0.5  # the map inside
    pixel_weight: float = 5.0  # mean square outside
    perceptual_weight: float = 1.0  # perceptual distance outside
    identity_weight: float = 0.1  # deep features of the whole picture
    regularizer: float = 0.02  # squared distance from the start, in units of W's spread
    layers: str | None = None  # layers that move, as 0-6; None: those of the layout

    def __post_init__(self) -> None:
        """Check the values."""
        if self.steps < 1:
            raise ConfigError(f"steps of an edit is {self.steps}; give at least 1")
        for name, value in asdict(self).items():
            if name != "layers" and not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name} of an edit is {value}; give a number of 0 or more")


class Change(NamedTuple):
    """Where maps were changed, at the size of the picture, and what is to be there."""

    label: Tensor  # [N,H,W] int64, the new map
    changed: Tensor  # [N,H,W] bool, where it differs from the old one
    free: Tensor  # [N,H,W] bool, the same and a margin around it, where the picture may change


class Edit(NamedTuple):
    """The codes found."""

    ws: Tensor  # [N,L,D]
    loss: Tensor  # [N]


def find_change(old: Tensor, new: Tensor, *, margin: float = MARGIN) -> Change:
    """Compare the maps `old` [N,H,W] of pictures with the changed ones `new` [N,h,w].

    `new` is brought to the size of `old`; `margin` is a share of the shorter side.

    Raises:
        LabelError: A map was not changed.
        ShapeError: There is not one new map for each old one.
    """
    if old.ndim != 3 or new.ndim != 3 or len(old) != len(new):
        raise ShapeError(f"maps of {list(old.shape)} were changed to {list(new.shape)}")
    label = resize_label(new.to(old.device), (old.shape[1], old.shape[2]))
    changed = label != old
    same = (~changed.flatten(1).any(dim=1)).nonzero()
    if len(same):
        raise LabelError(
            f"changed map {int(same[0])} is the map of the picture itself; paint other classes "
            "where the picture is to change"
        )
    return Change(label, changed, widened(changed, _radius(old, margin)))


def seen_change(
    old: Tensor,
    new: Tensor,
    before: Tensor,
    after: Tensor,
    *,
    least: float = VISIBLE,
    margin: float = MARGIN,
) -> Change:
    """Find where pictures `before` differ from those `after` an edit, both [N,3,H,W].

    That is where the maps `old` and `new` [N,H,W] of the pictures differ, or colours do by
    `least` in the mean of the channels, out of 2.
    """
    changed = (old != new) | ((after - before).abs().mean(dim=1) > least)
    return Change(new, changed, widened(changed, _radius(old, margin)))


def _radius(maps: Tensor, margin: float) -> int:
    return max(round(margin * min(maps.shape[1:])), 1)


def widened(mask: Tensor, radius: int) -> Tensor:
    """Widen `mask` [N,H,W] bool by `radius` pixels, diagonals included."""
    return F.max_pool2d(mask[:, None].float(), 2 * radius + 1, 1, radius)[:, 0] > 0


def feathered(change: Change, *, margin: float = MARGIN) -> Tensor:
    """Return how much of the edited picture is taken, [N,H,W]: 1 in the change, 0 far from it.

    It falls over the margin around the change and as much again; `margin` is `find_change`'s.
    """
    radius = _radius(change.label, margin)
    soft = change.free[:, None].float()
    for half in (radius // 2, radius - radius // 2):  # together they do not reach the change
        pad = F.pad(soft, [half] * 4, mode="replicate")
        soft = F.avg_pool2d(pad, 2 * half + 1, 1)
    return soft[:, 0]


def blend(photo: Tensor, edited: Tensor, weight: Tensor) -> Tensor:
    """Take `weight` [N,H,W] of `edited` and the rest of `photo`, both [N,3,H,W]."""
    return photo + weight[:, None] * (edited - photo)


def edit(
    images: Tensor,
    ws: Tensor,
    change: Change,
    labeler: Labeler,
    prior: Prior,
    *,
    gen: torch.Generator,
    perceptual: PerceptualDistance | None = None,
    identity: PerceptualDistance | None = None,
    settings: EditSettings | None = None,
    on_report: Callable[[int, Tensor], None] | None = None,
) -> Edit:
    """Find codes whose pictures have the changed maps and else look as the photographs.

    Args:
        images: The photographs [N,3,H,W] in [-1,1]; brought to the size of the prior.
        ws: Their codes [N,L,D], where the search starts.
        change: What `find_change` says of their maps.
        labeler: Reads maps off the prior's features.
        prior: The generator, as inverted into.
        gen: Source of the samples that tell the spread of W.
        perceptual: Distance that holds what is outside; None for pixels alone.
        identity: Distance that holds the whole picture, see `perceptual.load_identity_proxy`.
        settings: Steps and weights.
        on_report: Called after each step with its number and the losses [N].

    Raises:
        DivergenceError: The loss is no longer finite.
        LabelError: A changed map without a class that the labeler knows.
        ShapeError: Pictures, codes and maps do not fit each other or the prior.
    """
    settings = settings or EditSettings()
    check_codes(ws, prior)
    if not len(images) == len(ws) == len(change.label):
        raise ShapeError(
            f"{len(images)} pictures, {len(ws)} codes and {len(change.label)} changed maps; "
            "give one of each"
        )
    with torch.no_grad():
        out = prior.synthesis(ws, feature_resolutions=(labeler.resolution,))
    size = (out.img.shape[2], out.img.shape[3])
    grid = out.feats[labeler.resolution].shape[2:]
    target = resize_image(images.to(ws), size)
    drawn = _inside(change, labeler, (grid[0], grid[1]))
    outside = 1 - resize_image(change.free[:, None].to(ws), size)[:, 0]  # [N,H,W]
    terms = _Terms(target, outside, drawn, perceptual, identity, settings)
    spread = w_spread(prior, gen)
    plan = InversionSettings(steps=settings.steps, lr=settings.lr)
    search = CodeSearch(ws.detach().clone(), spread, plan, prior.num_ws, gen)
    moves = _moving(settings, ws)
    while search.step < settings.steps:
        codes = torch.where(moves, search.ws, ws)
        out = prior.synthesis(codes, feature_resolutions=labeler.resolutions)
        loss = terms(out.img, mean_mismatch(labeler, out.feats, drawn))
        offset = (search.ws - ws) / spread
        loss = loss + settings.regularizer * offset.square().mean(dim=(1, 2))
        search.update(loss)
        if on_report is not None:
            on_report(search.step, loss.detach())
    return Edit(search.best_ws, search.best_loss)


def _moving(settings: EditSettings, ws: Tensor) -> Tensor:
    """Return which layers of codes `ws` [N,L,D] an edit moves, [L,1] bool."""
    num = ws.shape[1]
    chosen = layout_layers(num) if settings.layers is None else parse_layers(settings.layers, num)
    moves = torch.zeros(num, 1, dtype=torch.bool, device=ws.device)
    moves[list(chosen)] = True
    return moves


class _Terms(NamedTuple):
    """What a picture is compared with."""

    target: Tensor  # [N,3,H,W], the photographs
    outside: Tensor  # [N,H,W], 1 where the picture is to stay
    drawn: Drawn
    perceptual: PerceptualDistance | None
    identity: PerceptualDistance | None
    settings: EditSettings

    def __call__(self, img: Tensor, mismatch: Tensor) -> Tensor:
        """Return the loss [N] of pictures [N,3,H,W] and the mismatch [N] of their maps."""
        weights = self.settings
        kept = blend(self.target, img, self.outside)  # inside nothing differs
        square = (kept - self.target).square().mean(dim=1).sum(dim=(1, 2))
        loss = weights.map_weight * mismatch
        loss = loss + weights.pixel_weight * square / self.outside.sum(dim=(1, 2)).clamp(min=1)
        if self.perceptual is not None:
            loss = loss + weights.perceptual_weight * self.perceptual(kept, self.target)
        if self.identity is not None:
            loss = loss + weights.identity_weight * self.identity(img, self.target)
        return loss


def _inside(change: Change, labeler: Labeler, grid: tuple[int, int]) -> Drawn:
    """Return the new maps on the labeler's grid, known only where the picture is free."""
    drawn = drawn_on_grid(change.label, labeler, grid)
    free = F.adaptive_max_pool2d(change.free[:, None].float(), grid)[:, 0] > 0
    known = drawn.known & free
    empty = (~known.flatten(1).any(dim=1)).nonzero()
    if len(empty):
        raise LabelError(
            f"changed map {int(empty[0])}: no class inside the change was in the labelled "
            "pictures, so nothing can be drawn there; paint other classes"
        )
    return Drawn(drawn.label, known)
