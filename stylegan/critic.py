"""The discriminator's half of the game: what it is shown, and what its verdicts cost."""

from typing import Any

from torch import Tensor, nn

from stylegan.objective import discriminator_loss, generator_loss, r1_penalty


class Critic:
    """StyleGAN2's critic: the logistic loss, and R1 every `interval` steps (lazy regularisation).

    Pictures are [N, 3, H, W] in [-1, 1], conditions `c` [N, c_dim], or None without. Another
    critic is another class with these attributes and methods.
    """

    network: nn.Module  # what is optimised and kept in snapshots

    def __init__(self, network: nn.Module, *, r1_gamma: float, interval: int = 16) -> None:
        self.network, self.r1_gamma, self.interval = network, r1_gamma, interval

    def discriminator_loss(self, real: Tensor, fake: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the logistic loss."""
        return discriminator_loss(self.judge(real, c), self.judge(fake, c))

    def generator_loss(self, fake: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the non-saturating loss."""
        return generator_loss(self.judge(fake, c))

    def regularizer(self, real: Tensor, c: Tensor | None, step: int) -> Tensor | None:
        """Return R1 scaled by gamma / 2 and the interval, or None at most steps."""
        if self.r1_gamma == 0 or step % self.interval:
            return None
        penalty = r1_penalty(self.judge, real, c).mean()
        return penalty * (self.r1_gamma / 2 * self.interval)

    def judge(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Return logits [N, 1], float32."""
        return self.network(img, c).float()

    def adapt(self, batch: int) -> dict[str, float]:
        """Take note of a step over `batch` pictures; return what to report of it."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs besides the network's weights."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
