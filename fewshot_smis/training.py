"""Train a mask encoder on endless pseudo-labelled samples of the prior.

Each step samples the prior, lets the labeler draw the label maps of the samples, and teaches
the encoder to give back the codes: mean squared error in W+, and nothing else.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.codes import check_codes
from fewshot_smis.data import IGNORE, one_hot, resize_label
from fewshot_smis.encoding import encode
from fewshot_smis.labelers import Labeler, label_samples
from fewshot_smis.losses import latent_mse
from fewshot_smis.optim import make_optimizer
from stylegan import Prior
from stylegan.errors import CheckpointError, ConfigError, DivergenceError, ShapeError
from stylegan.precision import autocast, resolve_precision
from stylegan.seeding import sample_z, stream


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
    lr: float
    seconds: float  # spent on this step
    validation: Validation | None  # on the steps it was asked for
    encoder: MaskEncoder  # the averaged one, or the trained one without averaging
    state: Callable[[], dict[str, Any]]  # what `resume` takes: tensors and plain values


class PseudoPairs(NamedTuple):
    """Where training pairs come from; `draw` is the method's sampling step."""

    prior: Prior
    labeler: Labeler
    mixing: float  # share of samples whose later layers come from a second w
    truncation_psi: float
    shots: Shots | None  # labelled pictures to mix in, already at the encoder's size
    shot_share: float  # share of samples replaced by a labelled picture

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
        if self.shots is None or self.shot_share <= 0:
            return label, ws
        chosen = torch.rand(num, generator=gen, device=gen.device) < self.shot_share
        which = torch.randint(len(self.shots.ws), (num,), generator=gen, device=gen.device)
        label = torch.where(chosen[:, None, None], self.shots.labels[which], label)
        return label, torch.where(chosen[:, None, None], self.shots.ws[which], ws)

    def _codes(self, num: int, gen: torch.Generator) -> Tensor:
        prior, psi = self.prior, self.truncation_psi
        ws = prior.mapping(sample_z(num, prior.z_dim, gen), truncation_psi=psi)  # [N,L,D]
        if self.mixing <= 0:
            return ws
        other = prior.mapping(sample_z(num, prior.z_dim, gen), truncation_psi=psi)
        draw = torch.rand(num, 2, generator=gen, device=gen.device)
        cut = (1 + draw[:, 0] * (prior.num_ws - 1)).long()  # first layer of the second w
        cut = torch.where(draw[:, 1] < self.mixing, cut, prior.num_ws)
        later = torch.arange(prior.num_ws, device=gen.device) >= cut[:, None]  # [N,L]
        return torch.where(later[:, :, None], other, ws)


def encoder_loss(encoder: MaskEncoder, label: Tensor, ws: Tensor) -> Tensor:
    """Return the mean squared error in W+ between `encoder(label)` and `ws` [N,L,D].

    `label` [N,S,S] int64 at the encoder's input size.
    """
    onehot = one_hot(label, encoder.in_channels).to(memory_format=torch.channels_last)
    return latent_mse(encoder(onehot).float(), ws)


def train_encoder(
    encoder: MaskEncoder,
    labeler: Labeler,
    prior: Prior,
    *,
    steps: int,
    batch: int = 2,
    lr: float = 1e-4,
    optimizer: str = "ranger",
    ema: float | None = 0.999,
    precision: str = "auto",
    seed: int = 0,
    mixing: float = 0.0,
    truncation_psi: float = 1.0,
    shots: Shots | None = None,
    shot_share: float = 0.0,
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
        batch: Samples a step.
        lr: Learning rate.
        optimizer: "ranger", "adamw" or "adam".
        ema: Decay of the averaged encoder, reached gradually; None for no averaging.
        precision: "auto", "float32" or "bfloat16", of the encoder's passes.
        seed: Of the samples.
        mixing: Share of samples that mix the styles of two w at a random layer (0 in the paper).
        truncation_psi: Truncation of the samples (1 in the paper).
        shots: Labelled pictures to mix in among the samples.
        shot_share: Share of samples replaced by `shots` (0 in the paper).
        validation: Labelled pictures to measure on.
        validate_every: Steps between measurements; also after the last step.
        resume: `state()` of an earlier report. The losses are those of a run never stopped.

    Raises:
        ConfigError: An option out of range.
        ShapeError: Encoder, labeler and prior do not fit together.
        CheckpointError: `resume` belongs to another encoder or optimiser.
        DivergenceError: The loss is no longer finite; names the step.
    """
    _check_options(steps=steps, batch=batch, validate_every=validate_every)
    _check_shares(ema, mixing, shot_share, shots)
    _check_fit(encoder, labeler, prior)
    device = prior.mapping.w_avg.device
    dtype = resolve_precision(precision, device)
    given = None if shots is None else _at_size(shots, encoder, prior)
    pairs = PseudoPairs(prior, labeler, mixing, truncation_psi, given, shot_share)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder.train()
    loop = _Loop(encoder, make_optimizer(optimizer, encoder.parameters(), lr), ema, seed, device)
    if resume is not None:
        loop.load_state(resume, lr)
    while loop.step < steps:
        started = time.perf_counter()
        label, ws = pairs.draw(batch, encoder.input_size, loop.gen)
        with autocast(device, dtype):
            loss = encoder_loss(encoder, label, ws)
        value = loop.update(loss)
        checked = None
        if validation is not None and (loop.step % validate_every == 0 or loop.step == steps):
            checked = validate(loop.result, labeler, prior, validation)
        seconds = time.perf_counter() - started
        yield TrainReport(loop.step, steps, value, lr, seconds, checked, loop.result, loop.state)


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
        optimizer: torch.optim.Optimizer,
        ema: float | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.encoder, self.optimizer, self.decay = encoder, optimizer, ema
        self.average = None if ema is None else copy.deepcopy(encoder).eval().requires_grad_(False)
        self.gen = stream(seed, "encoder/samples", device)
        self.step = 0

    @property
    def result(self) -> MaskEncoder:
        """The encoder to use: the averaged one if there is one."""
        return self.encoder if self.average is None else self.average

    def update(self, loss: Tensor) -> float:
        """Take one optimiser step down `loss` and return its value."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss is {value} at step {self.step + 1}; the encoder is as it was before. "
                "Go on from the last checkpoint with a lower learning rate, or with float32"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return value

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged encoder; parameters decay, buffers (norm statistics) are copied."""
        if self.average is None or self.decay is None:
            return
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
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

    def load_state(self, state: dict[str, Any], lr: float) -> None:
        """Go on from what `state` returned, with the learning rate `lr`."""
        try:
            if (state["average"] is None) != (self.average is None):
                raise ValueError("one is averaged (ema), the other is not")
            self.encoder.load_state_dict(state["encoder"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.gen.set_state(state["samples"].cpu())
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this training: {error}; resume with the options "
                "it was started with"
            ) from error


def _at_size(shots: Shots, encoder: MaskEncoder, prior: Prior) -> Shots:
    """Bring the shots to the encoder's size and the prior's device."""
    check_codes(shots.ws, prior)
    device = prior.mapping.w_avg.device
    labels = resize_label(shots.labels.to(device), encoder.input_size)
    return Shots(shots.ws.to(device), labels)


def _check_options(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}, but must be at least 1")


def _check_shares(ema: float | None, mixing: float, shot_share: float, shots: Shots | None) -> None:
    if ema is not None and not 0 <= ema < 1:
        raise ConfigError(f"ema is {ema}, but a decay lies in [0, 1); give None for no averaging")
    for name, share in (("mixing", mixing), ("shot_share", shot_share)):
        if not 0 <= share <= 1:
            raise ConfigError(f"{name} is {share}, but a share lies in [0, 1]")
    if shot_share > 0 and shots is None:
        raise ConfigError(f"shot_share is {shot_share}, but no shots are given; give their codes")


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
