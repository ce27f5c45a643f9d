"""Train a mask encoder on endless pseudo-labelled samples of the prior.

Each step samples the prior, lets the labeler draw the label maps of the samples, and teaches
the encoder to give back the codes: mean squared error in W+, and in the paper nothing else.

A map leaves most of a code open, so that error says little about the layout, and what it says is
spread over all layers. By default a second term asks what a drawing is for: the labeler, looking at
what the prior draws from the encoder's code, must find the map that was given.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.codes import check_codes
from fewshot_smis.data import IGNORE, resize_label
from fewshot_smis.data.dropout import drop_classes
from fewshot_smis.encoding import encode, planes
from fewshot_smis.labelers import Labeler, label_samples
from fewshot_smis.labelers.mismatch import class_mismatch, on_grid
from fewshot_smis.losses import latent_mse
from fewshot_smis.optim import make_optimizer, ramped
from stylegan import Prior
from stylegan.errors import CheckpointError, ConfigError, DivergenceError, ShapeError
from stylegan.precision import autocast, resolve_precision
from stylegan.seeding import sample_z, stream


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Everything that decides a training but the networks, the number of steps and the seed."""

    batch: int = 8  # samples a step
    lr: float = 1e-3
    optimizer: str = "adamw"
    ema: float | None = 0.995  # decay of the averaged encoder, reached gradually; None: no average
    ramp_up: float = 0.02  # share of the steps over which the learning rate rises
    ramp_down: float = 0.5  # share of the steps over which it falls to 0
    consistency: float = 0.5  # weight of the labeler's view of the drawn pictures
    mixing: float = 0.0  # share of samples that mix the styles of two w at a random layer
    truncation_psi: float = 1.0
    shot_share: float = 0.0  # share of samples replaced by labelled pictures
    class_dropout: float = 0.0  # share of the classes left out of a map: drawings lack some

    def __post_init__(self) -> None:
        """Check the values."""
        if self.batch < 1:
            raise ConfigError(f"batch is {self.batch}, but must be at least 1")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ConfigError(
                f"ema is {self.ema}, but a decay lies in [0, 1); give None for no averaging"
            )
        if not self.consistency >= 0:
            raise ConfigError(f"consistency is {self.consistency}, but a weight is 0 or more")
        for name in ("ramp_up", "ramp_down", "mixing", "shot_share", "class_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but a share lies in [0, 1]")


PRESETS = {
    "default": TrainingSettings(),
    # the public Fewshot-SMIS code's
    "reference": TrainingSettings(
        batch=2, lr=1e-4, optimizer="ranger", ema=None, ramp_up=0, ramp_down=0, consistency=0
    ),
}


class Shots(NamedTuple):
    """The labelled pictures as codes `ws` [N,L,D] and label maps `labels` [N,H,W] int64."""

    ws: Tensor
    labels: Tensor


class Validation(NamedTuple):
    """How the encoder does on the shots."""

    distance: float  # root mean square between its codes and the shots', in W+
    agreement: float  # share of labelled pixels whose class the drawn picture keeps


class TrainReport(NamedTuple):
    """One step. `state` and `encoder` are valid until the next report is asked for."""

    step: int  # steps done, from 1
    steps: int
    loss: float
    terms: dict[str, float]  # what it is made of: "latent", "mismatch"
    lr: float
    seconds: float  # spent on this step
    validation: Validation | None  # on the steps it was asked for
    encoder: MaskEncoder  # the averaged one, or the trained one without averaging
    state: Callable[[], dict[str, Any]]  # what `resume` takes: tensors and plain values


class PseudoPairs(NamedTuple):
    """Where training pairs come from; `draw` is the method's sampling step."""

    prior: Prior
    labeler: Labeler
    settings: TrainingSettings
    shots: Shots | None = None  # labelled pictures to mix in, already at the encoder's size

    @torch.no_grad()
    def draw(self, num: int, size: int, gen: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return label maps [num,size,size] int64 and the codes ws [num,L,D] of the samples.

        Of a labeler that drops a share of the samples, the most disputed ones are left out.
        """
        ws = self._codes(math.ceil(num / (1 - self.labeler.drop)), gen)
        feats = self.prior.synthesis.features(
            ws, self.labeler.resolutions, noise_mode="random", generator=gen
        )
        label = self.labeler(feats, (size, size))
        if len(ws) > num:
            dispute = self.labeler.disputes(feats).mean(dim=(1, 2))
            kept = dispute.argsort(stable=True)[:num]
            label, ws = label[kept], ws[kept]
        share = self.settings.shot_share
        if self.shots is None or share <= 0:
            return label, ws
        chosen = torch.rand(num, generator=gen, device=gen.device) < share
        which = torch.randint(len(self.shots.ws), (num,), generator=gen, device=gen.device)
        label = torch.where(chosen[:, None, None], self.shots.labels[which], label)
        return label, torch.where(chosen[:, None, None], self.shots.ws[which], ws)

    def _codes(self, num: int, gen: torch.Generator) -> Tensor:
        prior, psi, mixing = self.prior, self.settings.truncation_psi, self.settings.mixing
        ws = prior.mapping(sample_z(num, prior.z_dim, gen), truncation_psi=psi)  # [N,L,D]
        if mixing <= 0:
            return ws
        other = prior.mapping(sample_z(num, prior.z_dim, gen), truncation_psi=psi)
        draw = torch.rand(num, 2, generator=gen, device=gen.device)
        cut = (1 + draw[:, 0] * (prior.num_ws - 1)).long()  # first layer of the second w
        cut = torch.where(draw[:, 1] < mixing, cut, prior.num_ws)
        later = torch.arange(prior.num_ws, device=gen.device) >= cut[:, None]  # [N,L]
        return torch.where(later[:, :, None], other, ws)


def encoder_loss(
    encoder: MaskEncoder,
    label: Tensor,
    ws: Tensor,
    labeler: Labeler,
    prior: Prior,
    *,
    drawn: Tensor | None = None,
    consistency: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of `encoder` on maps `label` [N,S,S] of samples with codes `ws` [N,L,D].

    The encoder sees the maps as they are `drawn` [N,S,S], or `label` itself if that is None.
    "latent" is the mean squared error in W+ between its codes and `ws`, the paper's loss;
    "mismatch", times `consistency`, how badly the pictures drawn from its codes fit `label`, where
    anything was drawn, in the labeler's eyes (`labelers.mismatch`). The encoder runs in `dtype`.
    """
    if drawn is None:
        drawn = label
    with autocast(ws.device, dtype):
        found = encoder(planes(drawn, encoder)).float()
    latent = latent_mse(found, ws)
    if not consistency:
        return latent, {"latent": float(latent.detach())}
    feats = prior.synthesis.features(found, labeler.resolutions)
    _, _, *size = feats[labeler.resolution].shape
    asked = torch.where(drawn == nothing(labeler), drawn, label)
    mismatch = class_mismatch(labeler, feats, on_grid(asked, labeler, (size[0], size[1])))
    terms = {"latent": float(latent.detach()), "mismatch": float(mismatch.detach())}
    return latent + consistency * mismatch, terms


def train_encoder(
    encoder: MaskEncoder,
    labeler: Labeler,
    prior: Prior,
    *,
    steps: int,
    settings: TrainingSettings = PRESETS["default"],
    precision: str = "auto",
    seed: int = 0,
    shots: Shots | None = None,
    validation: Shots | None = None,
    validate_every: int = 500,
    resume: dict[str, Any] | None = None,
) -> Iterator[TrainReport]:
    """Train `encoder` in place and yield a report after every step.

    Args:
        encoder: From one-hot label maps to codes of `prior`.
        labeler: Gives the samples their label maps.
        prior: The generator; never changed.
        steps: Optimiser steps in all, those of a resumed run included.
        settings: How it is trained; PRESETS["reference"] is the paper's recipe.
        precision: "auto", "float32" or "bfloat16", of the encoder's passes.
        seed: Of the samples.
        shots: Labelled pictures to mix in among the samples, as `settings.shot_share` says.
        validation: Labelled pictures to measure on.
        validate_every: Steps between measurements; also after the last step.
        resume: `state()` of an earlier report. The losses are those of a run never stopped.

    Raises:
        ConfigError: An option out of range.
        ShapeError: Encoder, labeler and prior do not fit together.
        CheckpointError: `resume` belongs to another encoder or optimiser.
        DivergenceError: The loss is no longer finite; names the step.
    """
    _check_counts(steps=steps, validate_every=validate_every)
    if settings.shot_share > 0 and shots is None:
        raise ConfigError(
            f"shot_share is {settings.shot_share}, but no shots are given; give their codes"
        )
    _check_fit(encoder, labeler, prior)
    device = prior.mapping.w_avg.device
    dtype = resolve_precision(precision, device)
    given = None if shots is None else _at_size(shots, encoder, prior)
    pairs = PseudoPairs(prior, labeler, settings, given)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder.train()
    loop = _Loop(encoder, settings, steps, seed, device)
    if resume is not None:
        loop.load_state(resume)
    while loop.step < steps:
        started = time.perf_counter()
        label, ws = pairs.draw(settings.batch, encoder.input_size, loop.gen)
        drawn = incomplete(label, labeler, settings.class_dropout, loop.gen)
        loss, terms = encoder_loss(
            encoder,
            label,
            ws,
            labeler,
            prior,
            drawn=drawn,
            consistency=settings.consistency,
            dtype=dtype,
        )
        lr = loop.lr
        value = loop.update(loss)
        checked = None
        if validation is not None and (loop.step % validate_every == 0 or loop.step == steps):
            checked = validate(loop.result, labeler, prior, validation)
        seconds = time.perf_counter() - started
        yield TrainReport(
            loop.step, steps, value, terms, lr, seconds, checked, loop.result, loop.state
        )


@torch.no_grad()
def validate(encoder: MaskEncoder, labeler: Labeler, prior: Prior, shots: Shots) -> Validation:
    """Measure how closely `encoder` gives back the shots' codes and keeps their layout."""
    device = prior.mapping.w_avg.device
    labels = shots.labels.to(device)
    ws = encode(labels, encoder)
    distance = float(F.mse_loss(ws, shots.ws.to(device)).sqrt())
    pred = label_samples(labeler, prior, ws)
    target = resize_label(labels, (pred.shape[1], pred.shape[2]))
    known = target != IGNORE
    if labeler.sparse:
        known &= target != 0
    same = (pred == target)[known]
    return Validation(distance, float(same.float().mean()) if len(same) else math.nan)


class _Loop:
    """What changes from step to step: weights, their average, optimiser, random stream."""

    def __init__(
        self,
        encoder: MaskEncoder,
        settings: TrainingSettings,
        steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.encoder, self.settings, self.steps = encoder, settings, steps
        self.optimizer = make_optimizer(settings.optimizer, encoder.parameters(), settings.lr)
        averaged = None if settings.ema is None else copy.deepcopy(encoder)
        self.average = None if averaged is None else averaged.eval().requires_grad_(False)
        self.gen = stream(seed, "encoder/samples", device)
        self.step = 0

    @property
    def result(self) -> MaskEncoder:
        """The encoder to use: the averaged one if there is one."""
        return self.encoder if self.average is None else self.average

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        s = self.settings
        return ramped(s.lr, self.step, self.steps, up=s.ramp_up, down=s.ramp_down)

    def update(self, loss: Tensor) -> float:
        """Take one optimiser step down `loss` and return its value."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss is {value} at step {self.step + 1}; the encoder is as it was before. "
                "Go on from the last checkpoint with a lower learning rate, or with float32"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return value

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged encoder; parameters decay, buffers (norm statistics) are copied."""
        if self.average is None or self.settings.ema is None:
            return
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for ours, new in zip(self.average.parameters(), self.encoder.parameters(), strict=True):
            ours.lerp_(new, 1 - decay)
        for norm, latest in zip(self.average.buffers(), self.encoder.buffers(), strict=True):
            norm.copy_(latest)

    def state(self) -> dict[str, Any]:
        """Return a copy of everything needed to go on: tensors and plain values only."""
        return copy.deepcopy(
            {
                "step": self.step,
                "encoder": self.encoder.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "samples": self.gen.get_state(),
            }
        )

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        try:
            if (state["average"] is None) != (self.average is None):
                raise ValueError("one is averaged (ema), the other is not")
            self.encoder.load_state_dict(state["encoder"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            self.gen.set_state(state["samples"].cpu())
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this training: {error}; resume with the options "
                "it was started with"
            ) from error


def incomplete(label: Tensor, labeler: Labeler, share: float, gen: torch.Generator) -> Tensor:
    """Return maps [N,S,S] with this share of the classes left out."""
    if share <= 0:
        return label
    return drop_classes(label, share, labeler.num_classes, gen, nothing=nothing(labeler))


def nothing(labeler: Labeler) -> int:
    """Return the id of pixels where nothing is drawn."""
    return 0 if labeler.sparse else IGNORE


def _at_size(shots: Shots, encoder: MaskEncoder, prior: Prior) -> Shots:
    """Bring the shots to the encoder's size and the prior's device."""
    check_codes(shots.ws, prior)
    device = prior.mapping.w_avg.device
    labels = resize_label(shots.labels.to(device), encoder.input_size)
    return Shots(shots.ws.to(device), labels)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}, but must be at least 1")


def _check_fit(encoder: MaskEncoder, labeler: Labeler, prior: Prior) -> None:
    if encoder.in_channels != labeler.num_classes:
        raise ShapeError(
            f"the encoder takes {encoder.in_channels} classes, but the labeler gives "
            f"{labeler.num_classes}; build the encoder with in_channels={labeler.num_classes}"
        )
    if (encoder.num_ws, encoder.w_dim) != (prior.num_ws, prior.w_dim):
        raise ShapeError(
            f"the encoder gives codes of {encoder.num_ws} x {encoder.w_dim}, but the prior takes "
            f"{prior.num_ws} x {prior.w_dim}; build the encoder for this prior"
        )
