"""One training loop for every baseline: two optimisers, each with its own learning rate.

Each step draws a batch of labelled pictures; the generator's side moves first, then the
discriminator's, on pictures drawn anew.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewshot_smis.baselines.batch import Batch, Method
from fewshot_smis.baselines.methods import Recipe, drawing_copy
from fewshot_smis.data.images import resize_image
from fewshot_smis.data.labels import one_hot
from fewshot_smis.data.pairs import Pairs
from stylegan.errors import CheckpointError, ConfigError, DivergenceError
from stylegan.precision import autocast, resolve_precision
from stylegan.seeding import stream


class Examples(NamedTuple):
    """Labelled pictures of one size, small enough to be kept in memory."""

    img: Tensor  # [M,3,H,W] uint8 in [0,255]
    label: Tensor  # [M,H,W] int64 ids
    num_classes: int

    def draw(self, num: int, gen: torch.Generator, *, flip: bool = False) -> tuple[Tensor, Tensor]:
        """Return maps [num,K,H,W] and pictures [num,3,H,W] in [-1,1], drawn with replacement.

        `flip` mirrors half of them, which suits domains without classes of the left and right.
        """
        which = torch.randint(len(self.img), (num,), generator=gen)
        img, label = self.img[which].float() / 127.5 - 1, self.label[which]
        if flip:
            mirrored = torch.rand(num, generator=gen) < 0.5
            img = torch.where(mirrored[:, None, None, None], img.flip(3), img)
            label = torch.where(mirrored[:, None, None], label.flip(2), label)
        return one_hot(label, self.num_classes), img


def read_examples(pairs: Pairs, size: tuple[int, int]) -> Examples:
    """Bring labelled pictures to `size` (H, W)."""
    img = torch.cat(
        [
            ((resize_image(pair.image[None], size) + 1) * 127.5).round().to(torch.uint8)
            for pair in pairs.pairs
        ]
    )
    return Examples(img, pairs.labels(size), pairs.classes.num_classes)


class FitReport(NamedTuple):
    """One step. `state` and `method` are valid until the next report is asked for."""

    step: int  # steps done, from 1
    losses: dict[str, float]  # "generator/gan", "discriminator/real", ...
    lr: float  # of the generator
    seconds: float  # spent on this step
    method: Method  # draws with the averaged generator, or with the trained one without averaging
    state: Callable[[], dict[str, Any]]  # what `resume` takes: tensors and plain values


def train_baseline(
    method: Method,
    examples: Examples,
    *,
    steps: int,
    recipe: Recipe,
    batch: int = 1,
    flip: bool = False,
    precision: str = "float32",
    seed: int = 0,
    resume: dict[str, Any] | None = None,
) -> Iterator[FitReport]:
    """Train `method` in place, on the device of its networks, and yield a report every step.

    Args:
        method: Its networks take the classes and the size of the examples.
        examples: The labelled pictures.
        steps: Steps in all, those of a resumed run included.
        recipe: Learning rates, Adam's betas, decay, averaging.
        batch: Pictures a step.
        flip: Mirror half of the pictures.
        precision: "auto", "float32" or "bfloat16".
        seed: Of the choice of pictures and of the noise.
        resume: `state()` of an earlier report. The losses are those of a run never stopped.

    Raises:
        ConfigError: An option out of range.
        CheckpointError: `resume` belongs to another method or recipe.
        DivergenceError: A loss is no longer finite; names the step.
    """
    if steps < 1 or batch < 1:
        raise ConfigError(f"steps is {steps} and batch is {batch}; both must be at least 1")
    device = next(method.networks.parameters()).device
    dtype = resolve_precision(precision, device)
    method.networks.train()
    loop = _Loop(method, recipe, seed, device)
    if resume is not None:
        loop.load_state(resume)
    while loop.step < steps:
        started = time.perf_counter()
        onehot, img = examples.draw(batch, loop.data, flip=flip)
        one = Batch(onehot.to(device), img.to(device), loop.noise)
        rate = loop.set_rates(steps)
        losses: dict[str, float] = {}
        for side in loop.sides:
            with side.trained_alone(), autocast(device, dtype):
                terms = side.loss(one)
                losses |= side.update(terms, loop.step + 1)
        loop.finish_step()
        seconds = time.perf_counter() - started
        yield FitReport(loop.step, losses, rate, seconds, loop.result, loop.state)


class _Side:
    """The networks that one of the two losses trains, and their optimiser."""

    def __init__(
        self,
        name: str,
        networks: nn.ModuleDict,
        loss: Callable[[Batch], dict[str, Tensor]],
        lr: float,
        betas: tuple[float, float],
    ) -> None:
        mine = name == "discriminator"
        self.name, self.loss, self.lr = name, loss, lr
        groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
        for key, network in networks.items():
            groups[key.startswith("discriminator") == mine].extend(network.parameters())
        self.others, self.params = groups
        self.optimizer = torch.optim.Adam(self.params, lr=lr, betas=betas) if self.params else None

    @contextmanager
    def trained_alone(self) -> Iterator[None]:
        """Leave out the gradients of the other side's weights."""
        for param in self.others:
            param.requires_grad_(False)
        try:
            yield
        finally:
            for param in self.others:
                param.requires_grad_(True)

    def update(self, terms: dict[str, Tensor], step: int) -> dict[str, float]:
        """Take one step down the sum of `terms`, if there are any, and return their values."""
        values = {f"{self.name}/{key}": float(term.detach()) for key, term in terms.items()}
        bad = [key for key, value in values.items() if not math.isfinite(value)]
        if bad:
            raise DivergenceError(
                f"the loss {bad[0]} is {values[bad[0]]} at step {step}; go on from the last "
                "checkpoint with a lower learning rate, or with float32"
            )
        if self.optimizer is not None and terms:
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack([term.float() for term in terms.values()]).sum())
            self.optimizer.step()
        return values


class _Loop:
    """What changes from step to step: networks, their average, optimisers, random streams."""

    def __init__(self, method: Method, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.method, self.recipe, self.step = method, recipe, 0
        nets = method.networks
        self.sides = (
            _Side("generator", nets, method.generator_loss, recipe.lr, recipe.betas),
            _Side(
                "discriminator",
                nets,
                method.discriminator_loss,
                recipe.lr_discriminator,
                recipe.betas,
            ),
        )
        self.result = method if recipe.ema is None else drawing_copy(method)
        self.data = stream(seed, "baseline/data")
        self.noise = stream(seed, "baseline/noise", device)

    def set_rates(self, steps: int) -> float:
        """Set the learning rates of the coming step and return the generator's."""
        left = (steps - self.step) / (self.recipe.decay * steps) if self.recipe.decay else 1.0
        factor = min(1.0, left)
        for side in self.sides:
            for group in side.optimizer.param_groups if side.optimizer else ():
                group["lr"] = side.lr * factor
        return self.sides[0].lr * factor

    @torch.no_grad()
    def finish_step(self) -> None:
        """Count the step and move the average; spectral vectors and counters are copied."""
        self.step += 1
        if self.recipe.ema is None:
            return
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        latest = self.method.networks.state_dict()
        params = dict(self.result.networks.named_parameters())
        for name, ours in self.result.networks.state_dict().items():
            if name in params or name.endswith(("running_mean", "running_var")):
                ours.lerp_(latest[name], 1 - decay)
            else:
                ours.copy_(latest[name])

    def state(self) -> dict[str, Any]:
        """Return a copy of everything needed to go on: tensors and plain values only."""
        averaged = self.recipe.ema is not None
        optimizers = {s.name: s.optimizer.state_dict() for s in self.sides if s.optimizer}
        return copy.deepcopy(
            {
                "step": self.step,
                "networks": dict(self.method.networks.state_dict()),
                "average": dict(self.result.networks.state_dict()) if averaged else None,
                "optimizers": optimizers,
                "data": self.data.get_state(),
                "noise": self.noise.get_state(),
            }
        )

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        try:
            if (state["average"] is None) != (self.recipe.ema is None):
                raise ValueError("one is averaged (ema), the other is not")
            self.method.networks.load_state_dict(state["networks"])
            if state["average"] is not None:
                self.result.networks.load_state_dict(state["average"])
            for side in self.sides:
                if side.optimizer is not None:
                    side.optimizer.load_state_dict(copy.deepcopy(state["optimizers"][side.name]))
            self.data.set_state(state["data"].cpu())
            self.noise.set_state(state["noise"].cpu())
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this training: {error}; resume with the options "
                "it was started with"
            ) from error
