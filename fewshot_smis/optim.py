"""Ranger, the optimiser of the reference, and the choice among optimisers by name."""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from stylegan.errors import ConfigError

OPTIMIZERS = ("ranger", "adamw", "adam")


class Ranger(Optimizer):
    """Rectified Adam with look-ahead and centralised gradients, equal to the reference's.

    Three published parts: the variance rectification of RAdam (Liu et al. 2019), the slow
    weights of Lookahead (Zhang et al. 2019) and gradient centralisation (Yong et al. 2020).
    As in the reference, `eps` is added to the root of the uncorrected second moment, the steps
    whose variance is not yet tractable are plain momentum, and the gradient's mean over all
    axes but the first is taken off every tensor of two or more axes. Unlike the reference, it
    leaves `p.grad` as it is.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,  # decoupled, times lr
        lookahead_steps: int = 6,  # steps between two moves of the slow weights
        lookahead_alpha: float = 0.5,  # how far these move, 0 to 1
        min_sma: float = 5.0,  # length of the moving average from which the variance counts
    ) -> None:
        _check(lr, betas, lookahead_steps, lookahead_alpha)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "lookahead_steps": lookahead_steps,
            "lookahead_alpha": lookahead_alpha,
            "min_sma": min_sma,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; return the loss of `closure` if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return loss

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
            state["slow"] = p.detach().clone()
        state["step"] += 1
        beta1, beta2 = group["betas"]
        grad = centralised(p.grad) if p.grad is not None else torch.zeros_like(p)
        state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if group["weight_decay"]:
            p.mul_(1 - group["weight_decay"] * group["lr"])
        size = group["lr"] / (1 - beta1 ** state["step"])
        rectification = rectify(state["step"], beta2, group["min_sma"])
        if rectification is None:
            p.add_(state["exp_avg"], alpha=-size)
        else:
            denominator = state["exp_avg_sq"].sqrt().add_(group["eps"])
            p.addcdiv_(state["exp_avg"], denominator, value=-size * rectification)
        if state["step"] % group["lookahead_steps"] == 0:
            state["slow"].add_(p - state["slow"], alpha=group["lookahead_alpha"])
            p.copy_(state["slow"])


def centralised(grad: Tensor) -> Tensor:
    """Return `grad` less its mean over all axes but the first; vectors stay as they are."""
    if grad.ndim < 2:
        return grad
    return grad - grad.mean(dim=tuple(range(1, grad.ndim)), keepdim=True)


def rectify(step: int, beta2: float, min_sma: float) -> float | None:
    """Return RAdam's factor on the step, bias correction of the second moment included.

    None while the simple moving average is too short for its variance to be tractable.
    """
    limit = 2 / (1 - beta2) - 1
    correction = 1 - beta2**step
    sma = limit - 2 * step * beta2**step / correction
    if sma <= min_sma:
        return None
    ratio = (sma - 4) * (sma - 2) * limit / ((limit - 4) * (limit - 2) * sma)
    return math.sqrt(correction * ratio)


def ramped(lr: float, step: int, steps: int, *, up: float, down: float) -> float:
    """Return the learning rate of `step` (from 0) of `steps`: linear rise, plateau, cosine fall.

    `up` and `down` are the shares of the steps over which it rises to `lr` and falls to 0.
    """
    rise = min(1.0, (step + 1) / steps / up) if up > 0 else 1.0
    left = min(1.0, (1 - step / steps) / down) if down > 0 else 1.0
    return lr * rise * (0.5 - 0.5 * math.cos(math.pi * left))


def make_optimizer(name: str, params: Iterable[Any], lr: float) -> Optimizer:
    """Return the optimiser called `name`: "ranger", "adamw" or "adam".

    Raises ConfigError for another name or a learning rate that is not positive.
    """
    if not (lr > 0 and math.isfinite(lr)):
        raise ConfigError(f"learning rate {lr} cannot be used; give a positive number")
    if name == "ranger":
        return Ranger(params, lr)
    if name == "adamw":
        return torch.optim.AdamW(params, lr)
    if name == "adam":
        return torch.optim.Adam(params, lr)
    raise ConfigError(f"optimizer {name!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")


def _check(lr: float, betas: tuple[float, float], steps: int, alpha: float) -> None:
    if not (lr >= 0 and math.isfinite(lr)):
        raise ConfigError(f"Ranger: lr is {lr}; give a number of 0 or more")
    if not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"Ranger: betas are {betas}; both must lie in [0, 1)")
    if steps < 1 or not 0 <= alpha <= 1:
        raise ConfigError(
            f"Ranger: look-ahead of {steps} steps and alpha {alpha}; "
            "steps must be 1 or more and alpha in [0, 1]"
        )
