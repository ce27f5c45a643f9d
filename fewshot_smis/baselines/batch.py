"""What every baseline is given and gives: one contract for pix2pix, pix2pixHD, SPADE and OASIS."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from stylegan.config import Config
from stylegan.errors import ConfigError


class Batch(NamedTuple):
    """The labelled pictures of one step, and where its random draws come from."""

    onehot: Tensor  # [N,K,H,W] float32 0 or 1; a pixel of unknown class has no plane
    img: Tensor  # [N,3,H,W] in [-1,1]
    gen: torch.Generator | None = None  # on the tensors' device; may be left out without noise

    def source(self) -> torch.Generator:
        """Return `gen`; ConfigError where the batch came without one."""
        if self.gen is None:
            raise ConfigError("this method draws noise: give the batch a generator, Batch(.., gen)")
        return self.gen


class Method(Protocol):
    """What can be trained: a network, perhaps its discriminator, and the objective of each.

    Of `networks`, those whose name begins with "discriminator" are trained by
    `discriminator_loss`, the others by `generator_loss`; each gives the terms of a sum.
    """

    networks: nn.ModuleDict

    @property
    def config(self) -> Config:
        """What it was built from."""

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms that the generator minimises, scalars by name."""

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms that the discriminator minimises, scalars by name."""


@runtime_checkable
class Drawing(Method, Protocol):
    """A method from label maps to pictures."""

    def draw(self, onehot: Tensor, gen: torch.Generator) -> Tensor:
        """Return pictures [N,3,H,W] in [-1,1] for `onehot` [N,K,H,W], without gradients."""


@runtime_checkable
class Segmenting(Method, Protocol):
    """A method from pictures to label maps."""

    def segment(self, img: Tensor) -> Tensor:
        """Return labels [N,H,W], int64 ids, of pictures `img` [N,3,H,W] in [-1,1]."""
