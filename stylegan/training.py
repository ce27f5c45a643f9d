"""Train a StyleGAN2: `train_prior` yields a report a step; stop and resume give the same losses."""

import copy
import functools
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from stylegan import parallel
from stylegan.captured import Recorder
from stylegan.critic import Critic
from stylegan.errors import CheckpointError, ConfigError, DivergenceError
from stylegan.objective import path_lengths
from stylegan.precision import autocast, resolve_precision
from stylegan.seeding import rand, sample_z, stream
from stylegan.steering import Steering
from stylegan.stylegan2 import Generator


class ImageSource(Protocol):
    """Pictures to learn from, and their conditions."""

    c_dim: int  # width of the conditions; 0 without

    def __len__(self) -> int:
        """Return the number of pictures."""

    def batch(self, indices: Tensor) -> Tensor:
        """Return the pictures [N, 3, H, W], uint8, of those indices [N]."""

    def labels(self, indices: Tensor) -> Tensor:
        """Return the conditions [N, c_dim], float32, of those indices [N]."""


class PriorReport(NamedTuple):
    """One step of `train_prior`."""

    step: int
    images: int  # real pictures shown so far
    losses: dict[str, float]
    seconds: float  # of this step


class PriorTrainer:
    """All that changes while a generator is trained, with an exact state to save and restore.

    Under `torch.distributed` every process holds a trainer of the same arguments, and `batch` is
    that of all of them together: the losses are those of one process, up to rounding.

    Under `steering` the conditions of the pictures reach the critic and move w, while the
    generator itself has none.
    """

    def __init__(
        self,
        generator: Generator,
        critic: Critic,
        images: ImageSource,
        *,
        average: Generator | None = None,  # where the averaged generator starts
        steering: Steering | None = None,
        batch: int = 32,
        lr: float = 0.0025,  # of both networks (mapping x 0.01 by its own multiplier)
        betas: tuple[float, float] = (0.0, 0.99),
        mixing: float = 0.9,  # share of pictures whose styles cross over at a random layer
        ema_kimg: float = 10.0,  # half-life of the averaged generator
        ema_rampup: float | None = 0.05,  # half-life is at most this share of the images so far
        path_weight: float = 0.0,  # path length regularisation; 2 in the paper
        path_interval: int = 4,
        path_shrink: int = 2,  # its batch is this much smaller
        precision: str = "auto",
        captured: bool = True,  # replay steps as CUDA graphs, where they can be recorded
        seed: int = 0,
    ) -> None:
        self.G, self.critic, self.images = generator, critic, images
        self.D = critic.network
        self.device = next(generator.parameters()).device
        self.G_ema = copy.deepcopy(average or generator).to(self.device)
        self.steering, self.steering_ema = steering, copy.deepcopy(steering)
        self.trained, self.averaged = (
            nn.ModuleList(net for net in nets if net is not None)
            for nets in ((generator, steering), (self.G_ema, self.steering_ema))
        )
        self.averaged.eval().requires_grad_(False)
        self.batch, self.mixing, self.seed = batch, mixing, seed
        self.ema_kimg, self.ema_rampup = ema_kimg, ema_rampup
        self.path_weight, self.path_interval = path_weight, path_interval
        self.path_shrink = path_shrink
        self.dtype = resolve_precision(precision, self.device)
        lazy = path_interval / (path_interval + 1) if path_weight else 1.0
        groups = [{"params": net.parameters(), "lr": lr} for net in self.trained]
        self.opt_G = _adam(groups, betas, lazy)
        self.opt_D = _adam(critic.parameter_groups(lr), betas, 1.0)
        self.step_count = 0
        self.path_mean = torch.zeros([], device=self.device)
        self.gen = stream(seed, "prior/latents", self.device)
        self.draws = parallel.share(self.gen)
        self.local_batch = self._local_batch()
        alone = self.local_batch == batch and critic.augmentation is None
        recorded = captured and alone and self.device.type == "cuda"
        self.recorder = Recorder(self.device, [self.gen]) if recorded else None

    @property
    def images_seen(self) -> int:
        """Real pictures shown so far."""
        return self.step_count * self.batch

    def step(self) -> PriorReport:
        """Update discriminator, generator and average once; raise DivergenceError on NaN."""
        start = time.perf_counter()
        lazy = self.critic.is_regularized(self.step_count), self._is_path_step()
        if self.recorder is None:
            losses = self._play(*self._real())
        else:
            losses = self.recorder(lazy, self._play, *self._real())
        self._update_average()
        self.step_count += 1
        parallel.average(list(losses.values()))
        numbers = torch.stack(list(losses.values())).tolist()  # one wait for the device
        values = dict(zip(losses, numbers, strict=True))
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise self._diverged(f"the loss {', '.join(bad)}")
        values |= self.critic.adapt(self.batch)
        seconds = time.perf_counter() - start
        return PriorReport(self.step_count, self.images_seen, values, seconds)

    def _play(self, real: Tensor, c: Tensor | None) -> dict[str, Tensor]:
        """Update both networks by a batch; return the losses, which may still be computed."""
        fake = self._fake(c)
        losses = {"D": self._step_discriminator(real, fake.detach(), c)}
        losses["G"] = self._step_generator(fake, c)
        if self._is_path_step():
            losses["path"] = self._step_path_length(c)
        return losses

    def _is_path_step(self) -> bool:
        return self.path_weight > 0 and self.step_count % self.path_interval == 0

    def check(self) -> None:
        """Raise DivergenceError if a weight is not finite; call it before a state is kept."""
        for net in (*self.trained, self.D, *self.averaged):
            for name, weight in net.named_parameters():
                if not torch.isfinite(weight).all():
                    raise self._diverged(f"the weight {name}")

    @torch.no_grad()
    def draw(self, z: Tensor, c: Tensor) -> Tensor:
        """Draw the average's pictures [N, 3, H, W] of `z` [N, z_dim] under `c` [N, c_dim]."""
        ws = self.G_ema.mapping(z, c)
        if self.steering_ema is not None:
            ws = ws + self.steering_ema(c)[:, None]
        return self.G_ema.synthesis(ws).img

    def state(self) -> dict[str, Any]:
        """Return everything a resumed training needs: tensors and plain values only.

        Written by `torch.save` it is a checkpoint that `load_generator` opens.
        """
        config = getattr(self.critic.discriminator, "config", None)
        sizes = {} if config is None else {"D_config": config.to_dict()}
        steering = {name: getattr(self, name).state_dict() for name in self._steering_names()}
        return {
            **sizes,
            **steering,
            "G_config": self.G.config.to_dict(),
            "step": self.step_count,
            "batch": self.batch,
            "G": self.G.state_dict(),
            "G_ema": self.G_ema.state_dict(),
            "D": self.critic.discriminator.state_dict(),
            "opt_G": self.opt_G.state_dict(),
            "opt_D": self.opt_D.state_dict(),
            "critic": self.critic.state_dict(),
            "path_mean": self.path_mean.clone(),
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
            for name in ("G", "G_ema", "critic", *self._steering_names()):
                getattr(self, name).load_state_dict(state[name])
            for name in ("opt_G", "opt_D"):
                _load_adam(getattr(self, name), state[name])
            self.critic.discriminator.load_state_dict(state["D"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint is of another network: {error}") from error
        self.step_count = state["step"]
        self.path_mean.copy_(state["path_mean"])
        self.gen.set_state(state["latents"].cpu())

    def _steering_names(self) -> tuple[str, ...]:
        """Return the parts of the state that a training without steering does not have."""
        return () if self.steering is None else ("steering", "steering_ema")

    def _local_batch(self) -> int:
        """Return this process's share of the batch, whole groups of `minibatch_stddev`."""
        _, world = parallel.rank_and_world()
        if world > 1 and self.batch % (4 * world):
            raise ConfigError(
                f"a batch of {self.batch} cannot be shared by {world} processes in groups of "
                f"four; give a multiple of {4 * world}"
            )
        return self.batch // world

    def _diverged(self, what: str) -> DivergenceError:
        return DivergenceError(
            f"{what} is not finite at step {self.step_count}; "
            "resume from the last snapshot with a lower learning rate or --precision float32"
        )

    def _real(self) -> tuple[Tensor, Tensor | None]:
        """Return the next pictures [N, 3, H, W] of an endless shuffled sequence, and their c."""
        rank, world = parallel.rank_and_world()
        total = len(self.images)
        first = self.step_count * self.batch
        places = [divmod(first + i, total) for i in range(rank, self.batch, world)]
        indices = torch.stack([epoch_order(self.seed, epoch, total)[i] for epoch, i in places])
        pixels = self.images.batch(indices).to(self.device)
        judged = self.G.c_dim > 0 or self.steering is not None
        c = self.images.labels(indices).to(self.device) if judged else None
        return pixels.float() / 127.5 - 1, c

    def _fake(self, c: Tensor | None) -> Tensor:
        """Draw one picture for each real one, under its condition."""
        with autocast(self.device, self.dtype):
            ws = self._mixed_styles(self.local_batch, c)
            return self.G.synthesis(ws, noise_mode="random", generator=self.draws).img.float()

    def _mixed_styles(self, num: int, c: Tensor | None) -> Tensor:
        """Map z to ws, crossing over to a second w at a random layer in a share of the rows."""
        z = sample_z(2 * num, self.G.z_dim, self.draws)
        c = None if c is None else c.repeat(2, 1)
        w = self.G.mapping.map(z, c)
        if self.steering is not None:
            w = w + self.steering(c)
        mean = w.detach().float().mean(dim=0, keepdim=True)
        parallel.average([mean])
        self.G.mapping.update_average(mean)
        w, other = w.float().chunk(2)
        layers = self.G.num_ws
        draw = rand((num, 2), self.draws)
        cut = (1 + draw[:, 0] * (layers - 1)).long()
        cut = torch.where(draw[:, 1] < self.mixing, cut, layers)
        keep = torch.arange(layers, device=self.device) < cut[:, None]  # [N, L]
        return torch.where(keep[:, :, None], w[:, None], other[:, None])

    def _step_discriminator(self, real: Tensor, fake: Tensor, c: Tensor | None) -> Tensor:
        self.D.requires_grad_(True)
        self.opt_D.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            loss = self.critic.discriminator_loss(real, fake, c)
        torch.autograd.backward(loss)
        if self.critic.is_regularized(self.step_count):
            torch.autograd.backward(self.critic.regularizer(real, c))
        parallel.average_gradients(self.D.parameters())
        self.opt_D.step()
        self.D.requires_grad_(False)
        return loss.detach()

    def _step_generator(self, fake: Tensor, c: Tensor | None) -> Tensor:
        self.opt_G.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            loss = self.critic.generator_loss(fake, c)
        torch.autograd.backward(loss)
        parallel.average_gradients(self.trained.parameters())
        self.opt_G.step()
        return loss.detach()

    def _step_path_length(self, c: Tensor | None) -> Tensor:
        """Pull path lengths towards their running mean (StyleGAN2, section 3.2)."""
        self.opt_G.zero_grad(set_to_none=True)
        num = max(self.local_batch // self.path_shrink, 1)
        with autocast(self.device, self.dtype):
            ws = self._mixed_styles(num, None if c is None else c[:num])
            lengths = path_lengths(self.G, ws, self.draws)
        now = lengths.detach().mean()
        parallel.average([now])
        self.path_mean.lerp_(now, 0.01)
        loss = (lengths - self.path_mean).square().mean()
        torch.autograd.backward(loss * self.path_weight * self.path_interval)
        parallel.average_gradients(self.trained.parameters())
        self.opt_G.step()
        return loss.detach()

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged generator; parameters decay, buffers are copied."""
        kimg = self.ema_kimg
        if self.ema_rampup is not None:
            kimg = min(kimg, self.images_seen / 1000 * self.ema_rampup)
        beta = 0.5 ** (self.batch / max(kimg * 1000, 1e-8))
        averaged, trained = self.averaged, self.trained
        torch._foreach_lerp_(list(averaged.parameters()), list(trained.parameters()), 1 - beta)
        torch._foreach_copy_(list(averaged.buffers()), list(trained.buffers()))


def _adam(
    groups: list[dict[str, Any]], betas: tuple[float, float], lazy: float
) -> torch.optim.Adam:
    """Return Adam; `lazy` = k / (k + 1) makes up for a pass of its own each k steps.

    That is StyleGAN2's appendix B. The discriminator's R1 joins the step of its loss, which
    needs no such thing.
    """
    groups = [
        {**group, "params": list(group["params"]), "lr": group["lr"] * lazy} for group in groups
    ]
    cuda = all(p.is_cuda for group in groups for p in group["params"])
    return torch.optim.Adam(
        groups,
        betas=(betas[0] ** lazy, betas[1] ** lazy),
        eps=1e-8,
        fused=cuda or None,
        capturable=cuda,
    )


def _load_adam(optimizer: torch.optim.Adam, state: dict[str, Any]) -> None:
    """Load the state, which may come from another device; how to run stays as it is here."""
    here = {key: optimizer.param_groups[0][key] for key in ("fused", "capturable")}
    groups = [{**group, **here} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, total: int) -> Tensor:
    """Return the order [total] in which an epoch shows the pictures."""
    return torch.randperm(total, generator=stream(seed, f"prior/epoch/{epoch}"))


def train_prior(trainer: PriorTrainer, *, kimg: float) -> Iterator[PriorReport]:
    """Yield a report a step until `kimg` thousand pictures were shown."""
    while trainer.images_seen < kimg * 1000:
        yield trainer.step()
