"""pix2pix: a conditional GAN and an L1 distance (Isola et al. 2017).

    method = Pix2Pix(Pix2PixConfig(num_classes=19), stream(0, "pix2pix"))
    terms = method.generator_loss(Batch(onehot, img, gen))

The weights of the terms and `conditional` give the objectives the paper compares: L1, GAN, cGAN
and their sums. `Pix2PixLabels` is the same in the other direction, from photographs to labels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.config import check_at_least, check_choice
from fewshot_smis.baselines.layers import batch_statistics, initialise
from fewshot_smis.baselines.objective import ADVERSARIAL, gradient_penalty, l1
from fewshot_smis.baselines.patchgan import PatchConfig, PatchDiscriminator
from fewshot_smis.baselines.unet import UNet, UNetConfig
from stylegan.config import Config
from stylegan.errors import ConfigError
from stylegan.seeding import rand


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(Config):
    """The sizes of both networks and the weights of the objective; the defaults are the paper's."""

    num_classes: int
    levels: int = 8  # halvings of the generator: pictures are multiples of 2**levels
    skips: bool = True  # False: the encoder-decoder
    width: int = 64  # channels of the generator's outermost level
    patch: int = 70  # side of the discriminator's patches in pixels
    discriminator_width: int = 64
    norm: str = "batch"  # "batch", "instance" or "none"
    conditional: bool = True  # the discriminator sees the input beside the picture
    adversarial: str = "logistic"  # "logistic", "least_squares" or "wasserstein"
    gan_weight: float = 1.0  # 0: no discriminator
    l1_weight: float = 100.0
    penalty_weight: float = 0.0  # gradient penalty of the discriminator; 10 with "wasserstein"

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("adversarial", self.adversarial, tuple(ADVERSARIAL))
        weights = {"gan_weight": self.gan_weight, "l1_weight": self.l1_weight}
        check_at_least(1, num_classes=self.num_classes)
        check_at_least(0, **weights, penalty_weight=self.penalty_weight)
        if not any(weights.values()):
            raise ConfigError("gan_weight and l1_weight are both 0; give one of them a weight")

    def generator(self, in_channels: int, out_channels: int) -> UNetConfig:
        """Return the sizes of the generator between these channels."""
        return UNetConfig(
            in_channels=in_channels,
            out_channels=out_channels,
            levels=self.levels,
            width=self.width,
            skips=self.skips,
            norm=self.norm,
        )

    def discriminator(self, in_channels: int, out_channels: int) -> PatchConfig:
        """Return the sizes of the discriminator of that generator."""
        return PatchConfig(
            in_channels=out_channels + in_channels * self.conditional,
            patch=self.patch,
            width=self.discriminator_width,
            norm=self.norm,
        )


class Translation(NamedTuple):
    """What goes into the generator and what should come out, on the same pixels."""

    source: Tensor  # [N,I,H,W]
    target: Tensor  # [N,O,H,W] in [-1,1]


class Pix2Pix:
    """From label maps to pictures.

    `networks` holds "generator" and, unless `gan_weight` is 0, "discriminator".
    """

    def __init__(self, config: Pix2PixConfig, gen: torch.Generator) -> None:
        """Build both networks with weights drawn from `gen`."""
        self.config = config
        channels = self.channels()
        self.networks = nn.ModuleDict({"generator": UNet(config.generator(*channels))})
        if config.gan_weight:
            self.networks["discriminator"] = PatchDiscriminator(config.discriminator(*channels))
        initialise(self.networks, gen)

    def channels(self) -> tuple[int, int]:
        """Return how many channels the generator reads and writes."""
        return self.config.num_classes, 3

    def translation(self, batch: Batch) -> Translation:
        """Return which part of `batch` is the input and which the output."""
        return Translation(batch.onehot, batch.img)

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms "gan" and "l1", those of weight 0 left out.

        The batch needs a generator, for the dropout that is the method's noise.
        """
        source, target = self.translation(batch)
        fake = self.networks["generator"](source, batch.source())
        terms = {}
        if self.config.gan_weight:
            loss = ADVERSARIAL[self.config.adversarial](self._scores(source, fake), real=True)
            terms["gan"] = self.config.gan_weight * loss
        if self.config.l1_weight:
            terms["l1"] = self.config.l1_weight * l1(fake, target)
        return terms

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms "real" and "fake", halved to slow the discriminator, and "penalty".

        Real and drawn pictures are judged apart, so that a batch norm does not mix them. Without
        a discriminator there are no terms.
        """
        if not self.config.gan_weight:
            return {}
        source, target = self.translation(batch)
        with torch.no_grad():
            fake = self.networks["generator"](source, batch.source())
        loss = ADVERSARIAL[self.config.adversarial]
        terms = {
            "fake": loss(self._scores(source, fake), real=False) / 2,
            "real": loss(self._scores(source, target), real=True) / 2,
        }
        if self.config.penalty_weight:
            share = rand((len(fake), 1, 1, 1), batch.source()).to(fake.device)
            between = self._judged(source, target.lerp(fake, share))
            penalty = gradient_penalty(self.networks["discriminator"], between).mean()
            terms["penalty"] = self.config.penalty_weight * penalty
        return terms

    @torch.no_grad()
    def draw(self, onehot: Tensor, gen: torch.Generator) -> Tensor:
        """Return pictures [N,3,H,W] in [-1,1] for `onehot` [N,K,H,W].

        As in the paper dropout stays on, and a batch norm uses the statistics of each picture.
        """
        return self._translate(onehot, gen)

    def _translate(self, source: Tensor, gen: torch.Generator | None) -> Tensor:
        generator = self.networks["generator"]
        with batch_statistics(generator):
            return torch.cat([generator(one, gen) for one in source.unsqueeze(1).unbind()])

    def _judged(self, source: Tensor, img: Tensor) -> Tensor:
        return torch.cat([source, img], dim=1) if self.config.conditional else img

    def _scores(self, source: Tensor, img: Tensor) -> Tensor:
        return self.networks["discriminator"](self._judged(source, img))


class Pix2PixLabels(Pix2Pix):
    """From pictures to label maps, whose planes take the values -1 and 1."""

    def channels(self) -> tuple[int, int]:
        """Return how many channels the generator reads and writes."""
        return 3, self.config.num_classes

    def translation(self, batch: Batch) -> Translation:
        """Return which part of `batch` is the input and which the output."""
        return Translation(batch.img, 2 * batch.onehot - 1)

    @torch.no_grad()
    def segment(self, img: Tensor) -> Tensor:
        """Return labels [N,H,W], int64 ids, of pictures `img` [N,3,H,W] in [-1,1]; no noise."""
        return self._translate(img, None).argmax(dim=1)
