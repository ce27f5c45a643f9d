"""The discriminator's half of the game: what it is shown, and what its verdicts cost."""

from typing import Any

import torch
from torch import Tensor, nn

from stylegan import parallel
from stylegan.augment import AdaptiveStrength, Augment
from stylegan.objective import discriminator_loss, generator_loss, r1_penalty


class Augmentation:
    """Changes what a critic's network is shown, at a fixed strength or one that adapts."""

    def __init__(
        self, augment: Augment, gen: torch.Generator, strength: AdaptiveStrength | None = None
    ) -> None:
        self.augment, self.gen, self.strength = augment, gen, strength

    def __call__(self, img: Tensor) -> Tensor:
        """Return changed copies of `img` [N, 3, H, W]."""
        return self.augment(img, parallel.share(self.gen))

    def observe(self, real_logits: Tensor) -> None:
        """Take note of the logits [N, 1] of real pictures."""
        if self.strength is not None:
            self.strength.observe(parallel.gather_rows(real_logits.detach()))

    def adapt(self, batch: int) -> dict[str, float]:
        """Move the strength after a step over `batch` pictures; return it and what it follows."""
        if self.strength is None:
            return {}
        self.augment.p = self.strength.update(self.augment.p, batch)
        return {"augment_p": self.augment.p, "augment_r_t": self.strength.r_t}

    def state_dict(self) -> dict[str, Any]:
        """Return strength, statistics and random stream."""
        strength = {} if self.strength is None else self.strength.state()
        return {"p": self.augment.p, "strength": strength, "stream": self.gen.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.augment.p = state["p"]
        self.gen.set_state(state["stream"].cpu())
        if self.strength is not None:
            self.strength.load_state(state["strength"])


class Critic:
    """StyleGAN2's critic: the logistic loss, and R1 every `interval` steps (lazy regularisation).

    Pictures are [N, 3, H, W] in [-1, 1], conditions `c` [N, c_dim], or None without. Another
    critic is another class with these attributes and methods.
    """

    network: nn.Module  # all that is optimised
    discriminator: nn.Module  # StyleGAN2's part of it, which snapshots keep by itself

    def __init__(
        self,
        network: nn.Module,
        *,
        r1_gamma: float,
        interval: int = 16,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.network = self.discriminator = network
        self.r1_gamma, self.interval = r1_gamma, interval
        self.augmentation = augmentation

    def discriminator_loss(self, real: Tensor, fake: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the logistic loss; what the network says of `real` moves the augmentation."""
        return self.logistic_loss(self.show(real), self.show(fake), c)

    def generator_loss(self, fake: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the non-saturating loss."""
        return self.nonsaturating_loss(self.show(fake), c)

    def logistic_loss(self, real: Tensor, fake: Tensor, c: Tensor | None) -> Tensor:
        """Return the logistic loss of pictures as they are shown."""
        logits = self.discriminator(real, c).float()
        if self.augmentation is not None:
            self.augmentation.observe(logits)
        return discriminator_loss(logits, self.discriminator(fake, c).float())

    def nonsaturating_loss(self, fake: Tensor, c: Tensor | None) -> Tensor:
        """Return the non-saturating loss of pictures as they are shown."""
        return generator_loss(self.discriminator(fake, c).float())

    def is_regularized(self, step: int) -> bool:
        """Tell whether the discriminator's step `step` comes with `regularizer`."""
        return self.r1_gamma > 0 and step % self.interval == 0

    def regularizer(self, real: Tensor, c: Tensor | None) -> Tensor:
        """Return R1 scaled by gamma / 2 and the interval."""
        penalty = r1_penalty(self.judge, real, c).mean()
        return penalty * (self.r1_gamma / 2 * self.interval)

    def judge(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Return logits [N, 1], float32, of pictures, shown as they are in the losses."""
        return self.discriminator(self.show(img), c).float()

    def show(self, img: Tensor) -> Tensor:
        """Return `img` as the networks get to see it."""
        return img if self.augmentation is None else self.augmentation(img)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return what is optimised, at which learning rate, in the form torch's optimisers take."""
        return [{"params": list(self.discriminator.parameters()), "lr": lr}]

    def adapt(self, batch: int) -> dict[str, float]:
        """Take note of a step over `batch` pictures; return what to report of it."""
        return {} if self.augmentation is None else self.augmentation.adapt(batch)

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs besides the network's weights."""
        return {} if self.augmentation is None else self.augmentation.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        if self.augmentation is not None:
            self.augmentation.load_state_dict(state)
