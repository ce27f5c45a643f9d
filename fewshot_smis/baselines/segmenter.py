"""A segmenter: the U-Net of pix2pix from pictures to classes, taught by cross-entropy.

    method = Segmenter(SegmenterConfig(num_classes=19), stream(0, "segmenter"))
    label = method.segment(img)

It judges drawn pictures; as in the papers' evaluations, it learns from real ones alone. pix2pix's
own objective in this direction is `Pix2PixLabels`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.config import check_at_least
from fewshot_smis.baselines.layers import initialise
from fewshot_smis.baselines.unet import UNet, UNetConfig
from stylegan.config import Config


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(Config):
    """The sizes of the network."""

    num_classes: int
    levels: int = 5  # halvings: pictures are multiples of 2**levels
    width: int = 64  # channels of the outermost level
    norm: str = "batch"  # "batch", "instance" or "none"
    balance: float = 0.5  # a class weighs its share of the pixels to the power -balance

    def __post_init__(self) -> None:
        """Check the values."""
        check_at_least(1, num_classes=self.num_classes)
        check_at_least(0, balance=self.balance)

    def generator(self) -> UNetConfig:
        """Return the sizes of the U-Net."""
        return UNetConfig(
            in_channels=3,
            out_channels=self.num_classes,
            levels=self.levels,
            width=self.width,
            norm=self.norm,
            tanh=False,
        )


class Segmenter:
    """From pictures to label maps; `networks` holds "generator" alone."""

    def __init__(self, config: SegmenterConfig, gen: torch.Generator) -> None:
        """Build the network with weights drawn from `gen`."""
        self.config = config
        self.networks = nn.ModuleDict({"generator": UNet(config.generator())})
        initialise(self.networks, gen)

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the term "cross_entropy", the mean over the pixels of a known class, weighted.

        Without weights, jewellery of a few pixels would be left out for good.
        """
        logp = self.networks["generator"](batch.img).float().log_softmax(dim=1)
        counts = batch.onehot.sum(dim=(0, 2, 3))
        weight = (counts / counts.sum()).clamp(min=1e-6) ** -self.config.balance  # [K]
        loss = -torch.einsum("nkhw,nkhw,k->", batch.onehot, logp, weight)
        return {"cross_entropy": loss / (weight * counts).sum()}

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return no terms."""
        return {}

    @torch.no_grad()
    def segment(self, img: Tensor) -> Tensor:
        """Return labels [N,H,W], int64 ids, of pictures `img` [N,3,H,W] in [-1,1]."""
        return self.networks["generator"](img).argmax(dim=1)
