"""Make a code fit its map better, after encoding.

An encoder trained on tidy maps misreads rough scribbles. Sparse control (Endo 2022) mends that: the
directions in which samples of the prior differ most change the layout plausibly, so a handful of
coordinates is optimised against what the drawn classes look like. A dense map says more than that
handful can follow. For it every layer moves for itself along all directions, each in units of what
is common along it, so that plausible changes come first, and a pull towards the mean w keeps the
codes where the prior draws well. Of a steered prior (`stylegan.steering`) both leave out its
attributes, which are yes or no: or else half a pair of glasses would count as plausible.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_smis.codes import check_codes
from fewshot_smis.labelers import Labeler
from fewshot_smis.labelers.mismatch import Drawn, class_mismatches, drawn_on_grid, mean_mismatch
from fewshot_smis.optim import make_optimizer
from fewshot_smis.synthesis import parse_layers, style_layers
from stylegan import Prior
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import sample_z
from stylegan.steering import attribute_shift, without_attributes

W_SAMPLES = 1024  # w whose principal components are taken


class Freedom(NamedTuple):
    """How far a code is free to move, and how it is moved by Adam."""

    components: int | None  # principal components of w that may change; None for all
    each_layer: bool  # whether each layer moves for itself, in standard deviations of w
    steps: int
    lr: float  # in units of w, or of its standard deviations
    pull: float = 0.0  # weight of the mean squared distance from the mean w, in deviations


FEW = Freedom(components=8, each_layer=False, steps=201, lr=0.05)  # the paper's
ALL = Freedom(components=None, each_layer=True, steps=40, lr=0.1, pull=0.2)


def freedom_of(labeler: Labeler) -> Freedom:
    """Return FEW for maps of a few marks, which leave most open, and ALL for dense ones."""
    return FEW if labeler.sparse else ALL


class Refinement(NamedTuple):
    """The codes of least loss: how badly they fit their maps, and how far the pull lets them go."""

    ws: Tensor  # [N,L,D]
    before: Tensor  # [N]
    after: Tensor  # [N]


class RefinementReport(NamedTuple):
    """One step of one batch."""

    step: int  # steps done, from 1
    last: bool  # whether no step of this batch follows
    loss: Tensor  # [n], mismatch and pull of the batch, at the start of this step
    best: Refinement  # of the batch, so far


class Axes(NamedTuple):
    """Directions in which w differs, the largest first."""

    mean: Tensor  # [D], of w
    directions: Tensor  # [P,D], unit vectors
    deviations: Tensor  # [P], standard deviation of w along each

    def coordinates(self, ws: Tensor) -> Tensor:
        """Return how many deviations `ws` [...,D] lie from the mean along each direction."""
        return (ws - self.mean) @ self.directions.T / self.deviations


@torch.no_grad()
def principal_axes(prior: Prior, num: int | None, gen: torch.Generator) -> Axes:
    """Return the directions in which `W_SAMPLES` sampled w, without attributes, differ most.

    As many as `num`, or w_dim where that is None or more.

    Raises:
        ConfigError: `num` is less than 1.
    """
    if num is not None and num < 1:
        raise ConfigError(f"{num} principal components; at least 1 is needed")
    z = sample_z(W_SAMPLES, prior.z_dim, gen).to(prior.mapping.w_avg.device)
    w = without_attributes(prior.mapping, z)  # [1024,D]
    mean = w.mean(dim=0)
    _, lengths, axes = torch.linalg.svd(w - mean, full_matrices=False)
    return Axes(mean, axes[:num].contiguous(), lengths[:num] / len(w) ** 0.5)


def layout_layers(num_ws: int) -> tuple[int, ...]:
    """Return the layers that decide the layout: those which carry no style.

    The first 8 of priors of 14 layers and more, as in the paper; fewer of smaller ones.
    """
    return tuple(range(min(style_layers(num_ws))))


def refine(
    labels: Tensor | Sequence[Tensor],
    ws: Tensor,
    labeler: Labeler,
    prior: Prior,
    *,
    gen: torch.Generator,
    freedom: Freedom | None = None,
    layers: str | Iterable[int] | None = None,
    batch: int = 8,
    on_report: Callable[[RefinementReport], None] | None = None,
) -> Refinement:
    """Make the pictures of codes fit drawn maps better; each map for itself.

    Args:
        labels: The drawn maps, [N,H,W] or N maps [h,w] of any sizes, int64; unknown pixels do
            not count.
        ws: Codes to start from [N,L,D], as an encoder gives them.
        labeler: Says what classes look like; see `labelers.mismatch`.
        prior: The generator both belong to.
        gen: Source of the samples behind the principal components.
        freedom: How the codes move; None for `freedom_of` the labeler.
        layers: Layers that are moved; None for `layout_layers`.
        batch: Maps optimised at once.
        on_report: Called after each step.

    Raises:
        ConfigError: An option out of range, or a layer outside the network.
        LabelError: An id unknown to the labeler, or a map with nothing to compare.
        ShapeError: Codes of another prior, or not one for each map.
    """
    parts = []
    for report in refinement_steps(
        labels,
        ws,
        labeler,
        prior,
        gen=gen,
        freedom=freedom,
        layers=layers,
        batch=batch,
    ):
        if report.last:
            parts.append(report.best)
        if on_report is not None:
            on_report(report)
    return Refinement(*map(torch.cat, zip(*parts, strict=True)))


def refinement_steps(
    labels: Tensor | Sequence[Tensor],
    ws: Tensor,
    labeler: Labeler,
    prior: Prior,
    *,
    gen: torch.Generator,
    freedom: Freedom | None = None,
    layers: str | Iterable[int] | None = None,
    batch: int = 8,
) -> Iterator[RefinementReport]:
    """Refine a batch after the other; yield a report after each step.

    Arguments and errors are those of `refine`.
    """
    check_codes(ws, prior)
    if len(labels) != len(ws):
        raise ShapeError(f"{len(labels)} maps, but {len(ws)} codes; give one code a map")
    freedom = freedom_of(labeler) if freedom is None else freedom
    steps = freedom.steps
    if steps < 1:
        raise ConfigError(f"steps is {steps}, but must be at least 1")
    chosen = layout_layers(prior.num_ws) if layers is None else parse_layers(layers, prior.num_ws)
    moved = torch.zeros(prior.num_ws, 1, device=ws.device)
    moved[list(chosen)] = 1
    axes = principal_axes(prior, freedom.components, gen)
    attributes = attribute_shift(prior.mapping, ws[:, list(chosen)].mean(dim=1), axes.mean)
    drawn = drawn_on_grid(
        [label.to(ws.device) for label in labels], labeler, label_grid(labeler, prior)
    )
    for part in torch.split(torch.arange(len(ws), device=ws.device), batch):
        search = _Search(ws[part], attributes[part], moved, axes, freedom)
        target = Drawn(drawn.label[part], drawn.known[part])
        first: Tensor | None = None
        for step in range(1, steps + 1):
            loss = search.step(target, labeler, prior)
            first = loss if first is None else first
            best = Refinement(search.best_ws, first, search.best_loss)
            yield RefinementReport(step, step == steps, loss, best)


@torch.no_grad()
def label_grid(labeler: Labeler, prior: Prior) -> tuple[int, int]:
    """Return the size (h, w) of the largest features of `prior` that `labeler` reads."""
    middle = prior.mapping.w_avg.expand(1, prior.num_ws, -1)
    feats = prior.synthesis.features(middle, (labeler.resolution,))
    _, _, height, width = feats[labeler.resolution].shape
    return height, width


class _Search:
    """Coordinates of a batch of codes, their optimiser, and the best so far."""

    def __init__(
        self, ws: Tensor, attributes: Tensor, moved: Tensor, axes: Axes, freedom: Freedom
    ) -> None:
        self.attributes = attributes[:, None]  # [N,1,D]
        self.start, self.moved, self.each_layer = ws.detach(), moved, freedom.each_layer
        self.pull, self.axes = freedom.pull, axes
        scale = axes.deviations[:, None] if self.each_layer else 1.0
        self.units = axes.directions * scale
        layers = ws.shape[1] if self.each_layer else 1
        self.shift = ws.new_zeros(len(ws), layers, len(self.units), requires_grad=True)
        self.optimizer = make_optimizer("adam", [self.shift], freedom.lr)
        self.best_ws = self.start
        self.best_loss = ws.new_full((len(ws),), torch.inf)

    @torch.enable_grad()
    def step(self, drawn: Drawn, labeler: Labeler, prior: Prior) -> Tensor:
        """Keep the codes of least loss so far, take a step and return the loss [N] before it."""
        ws = self.start + self.moved * (self.shift @ self.units)  # [N,L,D]
        feats = prior.synthesis.features(ws, labeler.resolutions)
        loss = mean_mismatch(labeler, feats, drawn)  # [N]
        if self.each_layer:  # free enough to move small parts by themselves
            loss = loss + class_mismatches(labeler, feats, drawn)
        if self.pull:
            moved = ws[:, self.moved[:, 0] > 0]
            away = self.axes.coordinates(moved - self.attributes)
            loss = loss + self.pull * away.square().mean(dim=(1, 2))
        value = loss.detach()
        better = value < self.best_loss
        self.best_loss = torch.where(better, value, self.best_loss)
        self.best_ws = torch.where(better[:, None, None], ws.detach(), self.best_ws)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum(), inputs=[self.shift])
        self.optimizer.step()
        return value
