"""Find the codes of given pictures: optimise ws until the prior draws the picture.

Several pictures are optimised at once and do not influence each other: every loss is per
picture, and the codes of one get no gradient from another.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.codes import check_codes, load_codes, save_codes
from fewshot_smis.data import resize_image
from fewshot_smis.losses import l2
from fewshot_smis.optim import make_optimizer, ramped
from fewshot_smis.perceptual import PerceptualDistance
from stylegan import Prior, prepare
from stylegan.errors import CheckpointError, ConfigError, DivergenceError, ShapeError
from stylegan.seeding import sample_z
from stylegan.steering import fit_attributes, without_attributes

__all__ = [
    "PRESETS",
    "Inversion",
    "InversionReport",
    "InversionSettings",
    "check_codes",
    "inversion_steps",
    "invert",
    "load_codes",
    "save_codes",
]

SPACES = ("w", "w+")
STARTS = ("average", "samples", "noise")
W_SAMPLES = 1024  # w drawn for the spread of W
NEAR = 8  # samples nearest in pixels, which are compared by loss
TRIED = 4  # of these, which try the attributes of a steered prior


@dataclass(frozen=True, kw_only=True)
class InversionSettings:
    """Everything that decides an inversion but the pictures, the prior and the seed."""

    steps: int
    lr: float
    optimizer: str = "adam"
    space: str = "w+"  # "w": one w for all layers; "w+": one each
    start: str = "samples"  # "samples": the nearest of some; "average": w_avg; "noise": near it
    start_samples: int = 128  # pictures drawn to find the nearest
    size: int | None = None  # px at which pictures are compared; None: the prior's, at most 256
    pixel_weight: float = 1.0
    perceptual_weight: float = 1.0
    regularizer: float = 0.0  # weight of the squared distance from w_avg in units of W's spread
    noise: str = "const"  # "const": the prior's own; "random": redrawn at each step
    ramp_up: float = 0.05  # share of the steps over which the learning rate rises
    ramp_down: float = 0.25  # share of the steps over which it falls to 0
    keep_every: int = 1  # steps between two looks at the loss for the best codes
    recompute: bool = False  # features again in the backward pass: less memory, more time

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, known in (
            ("space", self.space, SPACES),
            ("start", self.start, STARTS),
            ("noise", self.noise, ("const", "random")),
        ):
            if value not in known:
                raise ConfigError(f"inversion {name} '{value}' is unknown; choose from {known}")
        for name in ("steps", "keep_every", "start_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"inversion {name} is {getattr(self, name)}; give at least 1")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ConfigError(f"inversion lr is {self.lr}; give a positive number")
        if self.size is not None and self.size < 4:
            raise ConfigError(f"inversion size is {self.size} px; give at least 4")


PRESETS = {
    # chosen on photographs of faces: both distances end lower than with weight 1 or lr 0.05
    "default": InversionSettings(steps=400, lr=0.1, perceptual_weight=0.25, regularizer=0.02),
    # the public Fewshot-SMIS code's
    "reference": InversionSettings(
        steps=2000,
        lr=1.0,
        optimizer="ranger",
        start="noise",
        size=256,
        perceptual_weight=0.8,
        noise="random",
        ramp_up=0.0,
        ramp_down=0.0,
        keep_every=50,
    ),
}


class Inversion(NamedTuple):
    """The best codes found."""

    ws: Tensor  # [N,L,D]
    loss: Tensor  # [N], of these codes
    steps: int


class InversionReport(NamedTuple):
    """One step. `state` is valid until the next report is asked for."""

    step: int  # steps done, from 1
    steps: int
    loss: Tensor  # [N], at the start of this step
    best: Tensor  # [N], lowest loss so far
    ws: Tensor  # [N,L,D], the codes of the lowest loss
    state: Callable[[], dict[str, Any]]  # what `resume` takes: tensors and plain values


def invert(
    images: Tensor,
    prior: Prior,
    *,
    gen: torch.Generator,
    perceptual: PerceptualDistance | None = None,
    preset: str = "default",
    space: str | None = None,
    steps: int | None = None,
    lr: float | None = None,
    resume: dict[str, Any] | None = None,
    on_report: Callable[[InversionReport], None] | None = None,
) -> Inversion:
    """Find codes whose pictures look like `images`.

    Args:
        images: [N,3,H,W] in [-1,1], of any size: they are resized to the size of comparison.
        prior: The generator.
        gen: Source of the start and of random noise.
        perceptual: Distance that joins the pixels' mean square; None for pixels alone.
        preset: Name of the settings in PRESETS: "default" or "reference".
        space: "w" or "w+", instead of the preset's.
        steps: Optimiser steps in all, instead of the preset's.
        lr: Learning rate, instead of the preset's.
        resume: `state()` of an earlier report; the result is that of a run never stopped.
        on_report: Called after each step.

    Raises:
        ConfigError: An option out of range.
        ShapeError: `images` is not [N,3,H,W].
        CheckpointError: `resume` belongs to another inversion.
        DivergenceError: A loss is no longer finite; names step and picture.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset '{preset}' is unknown; choose from {', '.join(PRESETS)}")
    given = {"space": space, "steps": steps, "lr": lr}
    changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    settings = replace(PRESETS[preset], **changes)
    if resume is not None and resume.get("step", 0) >= settings.steps:  # nothing is left to do
        return Inversion(resume["best_ws"], resume["best_loss"], resume["step"])
    for report in inversion_steps(
        images, prior, settings, gen=gen, perceptual=perceptual, resume=resume
    ):
        result = Inversion(report.ws, report.best, report.step)
        if on_report is not None:
            on_report(report)
    return result


def inversion_steps(
    images: Tensor,
    prior: Prior,
    settings: InversionSettings,
    *,
    gen: torch.Generator,
    perceptual: PerceptualDistance | None = None,
    resume: dict[str, Any] | None = None,
) -> Iterator[InversionReport]:
    """Optimise codes for `images` [N,3,H,W] as `settings` say; yield a report after each step.

    Arguments and errors are those of `invert`.
    """
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ShapeError(f"images have the shape {list(images.shape)}, but [N,3,H,W] is needed")
    prior = prepare(prior, recompute=settings.recompute)
    center = prior.mapping.w_avg
    images = images.to(center)
    size = settings.size or min(prior.img_resolution, 256)
    target = resize_image(images, size)
    if resume is None:
        spread = w_spread(prior, gen)
        codes = start_codes(target, prior, settings, gen, perceptual)
        search = CodeSearch(codes, spread, settings, prior.num_ws, gen)
    else:
        codes = center.expand(len(images), _rows(prior, settings), -1).clone()
        search = CodeSearch(codes, center.new_ones(()), settings, prior.num_ws, gen)
        search.load_state(resume)
    while search.step < settings.steps:
        ws = search.ws
        img = prior.synthesis(ws, noise_mode=settings.noise, generator=gen).img
        loss = picture_loss(img, target, settings, perceptual)
        if settings.regularizer:
            offset = (ws - center) / search.spread
            loss = loss + settings.regularizer * offset.square().mean(dim=(1, 2))
        search.update(loss)
        yield InversionReport(
            search.step,
            settings.steps,
            loss.detach(),
            search.best_loss.clone(),
            search.best_ws.clone(),
            search.state,
        )


def picture_loss(
    img: Tensor,
    target: Tensor,
    settings: InversionSettings,
    perceptual: PerceptualDistance | None,
) -> Tensor:
    """Return the weighted pixel and perceptual distances [N] of `img` from `target` [N,3,S,S]."""
    img = F.adaptive_avg_pool2d(img, target.shape[-1])
    loss = settings.pixel_weight * l2(img, target)
    if perceptual is None:
        return loss
    return loss + settings.perceptual_weight * perceptual(img, target)


@torch.no_grad()
def w_spread(prior: Prior, gen: torch.Generator) -> Tensor:
    """Return the root mean square distance per coordinate of w from w_avg, a scalar."""
    z = sample_z(W_SAMPLES, prior.z_dim, gen).to(prior.mapping.w_avg.device)
    w = prior.mapping(z)[:, 0]
    return (w - prior.mapping.w_avg).square().mean().sqrt().clamp(min=1e-6)


@torch.no_grad()
def start_codes(
    target: Tensor,
    prior: Prior,
    settings: InversionSettings,
    gen: torch.Generator,
    perceptual: PerceptualDistance | None = None,
) -> Tensor:
    """Return codes to start from, [N,1,D] in W and [N,L,D] in W+, for `target` [N,3,S,S]."""
    rows = _rows(prior, settings)
    if settings.start == "samples":
        w = nearest_samples(target, prior, settings, gen, perceptual)
        return w[:, None].repeat(1, rows, 1)
    start = prior.mapping.w_avg.expand(len(target), rows, -1).clone()  # [N,1 or L,D]
    if settings.start == "average":
        return start
    noise = torch.randn(start.shape, generator=gen, device=gen.device).to(start)
    return start + noise / math.sqrt(prior.w_dim)


def nearest_samples(
    target: Tensor,
    prior: Prior,
    settings: InversionSettings,
    gen: torch.Generator,
    perceptual: PerceptualDistance | None = None,
    *,
    batch: int = 8,
) -> Tensor:
    """Return for each of `target` [N,3,S,S] the w [N,D] of least loss among w_avg and samples.

    Of the samples, truncated to psi 0.7, those nearest in the mean square of pixels at up to
    32 px are compared by loss. The best of them try the attributes of a steered prior, too: a
    gradient does not put glasses on.
    """
    device = prior.mapping.w_avg.device
    z = sample_z(settings.start_samples, prior.z_dim, gen).to(device)
    samples = prior.mapping(z, truncation_psi=0.7)[:, 0]
    w = torch.cat([prior.mapping.w_avg[None], samples])  # [1+num,D]

    def draw(w: Tensor) -> Tensor:
        return prior.synthesis(w[:, None].expand(-1, prior.num_ws, -1)).img

    size = min(32, target.shape[-1], prior.img_resolution)
    small = F.adaptive_avg_pool2d(target, size).flatten(1)
    distances = []
    for part in torch.split(w, batch):
        img = F.adaptive_avg_pool2d(draw(part), size).flatten(1)
        distances.append((img[None] - small[:, None]).square().mean(dim=2))  # [N,batch]
    mean = without_attributes(prior.mapping, z).mean(dim=0)
    found = []
    for one, distance in zip(target, torch.cat(distances, dim=1), strict=True):

        def loss(w: Tensor, one: Tensor = one) -> Tensor:
            goal = one.expand(len(w), -1, -1, -1)
            return picture_loss(draw(w), goal, settings, perceptual)

        near = w[distance.topk(min(NEAR, len(w)), largest=False).indices]
        near = near[loss(near).topk(min(TRIED, len(near)), largest=False).indices]
        near = fit_attributes(prior.mapping, near, mean, loss)
        found.append(near[loss(near).argmin()])
    return torch.stack(found)


def learning_rate(settings: InversionSettings, step: int) -> float:
    """Return the learning rate of `step` (from 0): linear rise, plateau, cosine fall."""
    up, down = settings.ramp_up, settings.ramp_down
    return ramped(settings.lr, step, settings.steps, up=up, down=down)


class CodeSearch:
    """What changes from step to step: codes, optimiser, random stream, the best so far."""

    def __init__(
        self,
        codes: Tensor,
        spread: Tensor,
        settings: InversionSettings,
        num_ws: int,
        gen: torch.Generator,
    ) -> None:
        self.codes, self.spread = codes.requires_grad_(True), spread
        self.settings, self.num_ws, self.gen = settings, num_ws, gen
        self.optimizer = make_optimizer(settings.optimizer, [self.codes], settings.lr)
        self.best_loss = codes.new_full((len(codes),), torch.inf).detach()
        self.best_ws = self.ws.detach().clone()
        self.step = 0

    @property
    def ws(self) -> Tensor:
        """The codes of all layers, [N,L,D]."""
        return self.codes.expand(-1, self.num_ws, -1)

    def update(self, loss: Tensor) -> None:
        """Keep the codes that `loss` [N] shows to be the best so far, then take a step."""
        value = loss.detach()
        if not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).nonzero()[0, 0])
            raise DivergenceError(
                f"the loss of picture {bad} is {float(value[bad])} at step {self.step + 1} of the "
                f"inversion; use a lower learning rate than {self.settings.lr}"
            )
        last = self.step + 1 == self.settings.steps
        if self.step % self.settings.keep_every == 0 or last:
            better = value < self.best_loss
            self.best_loss = torch.where(better, value, self.best_loss)
            self.best_ws = torch.where(better[:, None, None], self.ws.detach(), self.best_ws)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum(), inputs=[self.codes])
        self.optimizer.step()
        self.step += 1

    def state(self) -> dict[str, Any]:
        """Return a copy of everything needed to go on: tensors and plain values only."""
        return copy.deepcopy(
            {
                "step": self.step,
                "codes": self.codes.detach(),
                "spread": self.spread,
                "optimizer": self.optimizer.state_dict(),
                "best_loss": self.best_loss,
                "best_ws": self.best_ws,
                "gen": self.gen.get_state(),
            }
        )

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        try:
            if state["codes"].shape != self.codes.shape:
                raise ValueError(
                    f"it holds codes {list(state['codes'].shape)}, not {list(self.codes.shape)}"
                )
            self.codes.copy_(state["codes"])
            self.spread = state["spread"].to(self.spread)
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            self.best_loss = state["best_loss"].to(self.best_loss)
            self.best_ws = state["best_ws"].to(self.best_ws)
            self.gen.set_state(state["gen"].cpu())
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the state does not fit this inversion: {error}; resume with the pictures and "
                "options it was started with"
            ) from error


def _rows(prior: Prior, settings: InversionSettings) -> int:
    return 1 if settings.space == "w" else prior.num_ws
