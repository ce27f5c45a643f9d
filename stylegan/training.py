"""Train a StyleGAN2: `train_prior` yields a report a step; stop and resume give the same losses."""

import copy
import functools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from stylegan.discriminator import Discriminator
from stylegan.errors import CheckpointError, DivergenceError
from stylegan.objective import (
    discriminator_loss,
    generator_loss,
    path_lengths,
    r1_penalty,
)
from stylegan.precision import autocast, resolve_precision
from stylegan.seeding import sample_z, stream
from stylegan.stylegan2 import Generator


class ImageSource(Protocol):
    """Pictures to learn from."""

    def __len__(self) -> int:
        """Return the number of pictures."""

    def batch(self, indices: Tensor) -> Tensor:
        """Return the pictures [N, 3, H, W], uint8, of those indices [N]."""


class Critic:
    """A discriminator, the logistic loss, and R1 every `interval` steps (lazy regularisation)."""

    def __init__(self, network: Discriminator, *, r1_gamma: float, interval: int = 16) -> None:
        self.network, self.r1_gamma, self.interval = network, r1_gamma, interval

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the logistic loss."""
        return discriminator_loss(self.network(real).float(), self.network(fake).float())

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the non-saturating loss."""
        return generator_loss(self.network(fake).float())

    def regularizer(self, real: Tensor, step: int) -> Tensor | None:
        """Return R1 scaled by gamma / 2 and the interval, in float32."""
        if self.r1_gamma == 0 or step % self.interval:
            return None
        penalty = r1_penalty(self.network, real).mean()
        return penalty * (self.r1_gamma / 2 * self.interval)


class PriorReport(NamedTuple):
    """One step of `train_prior`."""

    step: int
    images: int  # real pictures shown so far
    losses: dict[str, float]
    seconds: float  # of this step


class PriorTrainer:
    """All that changes while a generator is trained, with an exact state to save and restore."""

    def __init__(
        self,
        generator: Generator,
        critic: Critic,
        images: ImageSource,
        *,
        batch: int = 32,
        lr: float = 0.0025,  # of both networks (mapping x 0.01 by its own multiplier)
        betas: tuple[float, float] = (0.0, 0.99),
        mixing: float = 0.9,  # share of pictures whose styles cross over at a random layer
        ema_kimg: float = 10.0,  # half-life of the averaged generator
        ema_rampup: float | None = 0.05,  # half-life is at most this share of the images so far
        path_weight: float = 0.0,  # path length regularisation; 2 in the paper
        path_interval: int = 4,
        precision: str = "auto",
        seed: int = 0,
    ) -> None:
        self.G, self.critic, self.images = generator, critic, images
        self.D = critic.network
        self.G_ema = copy.deepcopy(generator).eval().requires_grad_(False)
        self.batch, self.mixing, self.seed = batch, mixing, seed
        self.ema_kimg, self.ema_rampup = ema_kimg, ema_rampup
        self.path_weight, self.path_interval = path_weight, path_interval
        self.device = next(generator.parameters()).device
        self.dtype = resolve_precision(precision, self.device)
        self.opt_G = torch.optim.Adam(generator.parameters(), lr, betas, eps=1e-8)
        self.opt_D = torch.optim.Adam(self.D.parameters(), lr, betas, eps=1e-8)
        self.step_count = 0
        self.path_mean = torch.zeros([], device=self.device)
        self.gen = stream(seed, "prior/latents", self.device)

    @property
    def images_seen(self) -> int:
        """Real pictures shown so far."""
        return self.step_count * self.batch

    def step(self) -> PriorReport:
        """Update discriminator, generator and average once; raise DivergenceError on NaN."""
        start = time.perf_counter()
        real = self._real()
        fake = self._fake()
        losses = {"D": self._step_discriminator(real, fake.detach())}
        losses["G"] = self._step_generator(fake)
        if self.path_weight and self.step_count % self.path_interval == 0:
            losses["path"] = self._step_path_length()
        self._update_average()
        self.step_count += 1
        bad = [name for name, value in losses.items() if not torch.isfinite(value)]
        if bad:
            raise DivergenceError(
                f"the loss {', '.join(bad)} is not finite at step {self.step_count}; "
                "resume from the last snapshot with a lower learning rate or --precision float32"
            )
        values = {name: float(value) for name, value in losses.items()}
        seconds = time.perf_counter() - start
        return PriorReport(self.step_count, self.images_seen, values, seconds)

    def state(self) -> dict[str, Any]:
        """Return everything a resumed training needs: tensors and plain values only."""
        return {
            "step": self.step_count,
            "batch": self.batch,
            "G": self.G.state_dict(),
            "G_ema": self.G_ema.state_dict(),
            "D": self.D.state_dict(),
            "opt_G": self.opt_G.state_dict(),
            "opt_D": self.opt_D.state_dict(),
            "path_mean": self.path_mean,
            "latents": self.gen.get_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned; raise CheckpointError if it does not fit."""
        if state["batch"] != self.batch:
            raise CheckpointError(
                f"the checkpoint was trained with batch {state['batch']}, not {self.batch}; "
                "resume with the batch it had"
            )
        try:
            for name in ("G", "G_ema", "D", "opt_G", "opt_D"):
                getattr(self, name).load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint is of another network: {error}") from error
        self.step_count = state["step"]
        self.path_mean = state["path_mean"].to(self.device)
        self.gen.set_state(state["latents"].cpu())

    def _real(self) -> Tensor:
        """Return the next pictures [N, 3, H, W] in [-1, 1] of an endless shuffled sequence."""
        total = len(self.images)
        first = self.step_count * self.batch
        places = [divmod(first + i, total) for i in range(self.batch)]
        indices = [epoch_order(self.seed, epoch, total)[i] for epoch, i in places]
        pixels = self.images.batch(torch.stack(indices)).to(self.device)
        return pixels.float() / 127.5 - 1

    def _fake(self) -> Tensor:
        with autocast(self.device, self.dtype):
            ws = self._mixed_styles(self.batch)
            return self.G.synthesis(ws, noise_mode="random", generator=self.gen).img.float()

    def _mixed_styles(self, num: int) -> Tensor:
        """Map z to ws, crossing over to a second w at a random layer in a share of the rows."""
        z = sample_z(2 * num, self.G.z_dim, self.gen)
        w = self.G.mapping.map(z, None)
        self.G.mapping.update_average(w)
        w, other = w.float().chunk(2)
        layers = self.G.num_ws
        draw = torch.rand(num, 2, generator=self.gen, device=self.device)
        cut = (1 + draw[:, 0] * (layers - 1)).long()
        cut = torch.where(draw[:, 1] < self.mixing, cut, layers)
        keep = torch.arange(layers, device=self.device) < cut[:, None]  # [N, L]
        return torch.where(keep[:, :, None], w[:, None], other[:, None])

    def _step_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        self.D.requires_grad_(True)
        self.opt_D.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            loss = self.critic.discriminator_loss(real, fake)
        torch.autograd.backward(loss)
        penalty = self.critic.regularizer(real, self.step_count)
        if penalty is not None:
            torch.autograd.backward(penalty)
        self.opt_D.step()
        self.D.requires_grad_(False)
        return loss.detach()

    def _step_generator(self, fake: Tensor) -> Tensor:
        self.opt_G.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            loss = self.critic.generator_loss(fake)
        torch.autograd.backward(loss)
        self.opt_G.step()
        return loss.detach()

    def _step_path_length(self) -> Tensor:
        """Pull path lengths towards their running mean (StyleGAN2, section 3.2)."""
        self.opt_G.zero_grad(set_to_none=True)
        ws = self._mixed_styles(max(self.batch // 2, 1))
        lengths = path_lengths(self.G, ws, self.gen)
        mean = self.path_mean.lerp(lengths.detach().mean(), 0.01)
        self.path_mean = mean
        loss = (lengths - mean).square().mean()
        torch.autograd.backward(loss * self.path_weight * self.path_interval)
        self.opt_G.step()
        return loss.detach()

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged generator; parameters decay, buffers are copied."""
        kimg = self.ema_kimg
        if self.ema_rampup is not None:
            kimg = min(kimg, self.images_seen / 1000 * self.ema_rampup)
        beta = 0.5 ** (self.batch / max(kimg * 1000, 1e-8))
        for ours, new in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
            ours.copy_(new.lerp(ours, beta))
        for kept, now in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
            kept.copy_(now)


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, total: int) -> Tensor:
    """Return the order [total] in which an epoch shows the pictures."""
    return torch.randperm(total, generator=stream(seed, f"prior/epoch/{epoch}"))


def train_prior(trainer: PriorTrainer, *, kimg: float) -> Iterator[PriorReport]:
    """Yield a report a step until `kimg` thousand pictures were shown."""
    while trainer.images_seen < kimg * 1000:
        yield trainer.step()
