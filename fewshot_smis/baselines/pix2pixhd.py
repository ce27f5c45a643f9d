"""pix2pixHD: coarse-to-fine pictures, judged at several scales (Wang et al. 2018).

    method = Pix2PixHD(Pix2PixHDConfig(num_classes=19), stream(0, "pix2pixHD"))
    terms = method.generator_loss(Batch(onehot, img))

Instances are not needed: without them the regions of the classes take their place, for the edge
plane and for the features.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.config import check_at_least, check_choice
from fewshot_smis.baselines.hd_networks import (
    FeatureEncoder,
    HDConfig,
    HDGenerator,
    MultiscaleDiscriminator,
)
from fewshot_smis.baselines.layers import batch_statistics, initialise
from fewshot_smis.baselines.objective import ADVERSARIAL, Maps, feature_matching
from fewshot_smis.baselines.regions import (
    FeatureClusters,
    Rows,
    class_ids,
    edges,
    instance_average,
    region_rows,
)
from fewshot_smis.perceptual import PerceptualDistance
from stylegan.config import Config
from stylegan.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Pix2PixHDConfig(Config):
    """The sizes of all networks and the weights of the objective; the defaults are the paper's."""

    num_classes: int
    width: int = 64  # channels of the global generator's outermost layer
    halvings: int = 4  # of the global generator
    blocks: int = 9  # residual blocks of the global generator
    enhancers: int = 0  # local enhancers; the paper uses one above 1024 x 512
    norm: str = "instance"  # "batch", "instance" or "none"
    edges: bool = True  # a plane of the borders between regions beside the label map
    features: int = 0  # channels of the encoded features that vary the pictures; 3 in the paper
    encoder_width: int = 16
    scales: int = 3  # of the discriminator
    discriminator_width: int = 64
    adversarial: str = "least_squares"  # or "logistic", "wasserstein"
    matching_weight: float = 10.0  # feature matching
    perceptual_weight: float = 10.0  # used if a perceptual distance is given

    def __post_init__(self) -> None:
        """Check the values that the networks do not."""
        check_choice("adversarial", self.adversarial, tuple(ADVERSARIAL))
        check_at_least(1, num_classes=self.num_classes)
        check_at_least(0, features=self.features, matching_weight=self.matching_weight)
        check_at_least(0, perceptual_weight=self.perceptual_weight)

    @property
    def planes(self) -> int:
        """How many planes describe the layout: classes, and perhaps edges."""
        return self.num_classes + self.edges

    def generator(self) -> HDConfig:
        """Return the sizes of the generator."""
        return HDConfig(
            in_channels=self.planes + self.features,
            width=self.width,
            halvings=self.halvings,
            blocks=self.blocks,
            enhancers=self.enhancers,
            norm=self.norm,
        )


class Pix2PixHD:
    """From label maps to pictures, with features of each region for variety if wanted.

    `networks` holds "generator" and "discriminator", with features also "encoder", trained with
    the generator, and "clusters", which `cluster` fills after training.
    """

    def __init__(
        self,
        config: Pix2PixHDConfig,
        gen: torch.Generator,
        perceptual: PerceptualDistance | None = None,
    ) -> None:
        """Build the networks with weights drawn from `gen`; `perceptual` adds its distance."""
        self.config, self.perceptual = config, perceptual
        discriminator = MultiscaleDiscriminator(
            config.planes + 3,
            scales=config.scales,
            width=config.discriminator_width,
            norm=config.norm,
        )
        self.networks = nn.ModuleDict(
            {"generator": HDGenerator(config.generator()), "discriminator": discriminator}
        )
        if config.features:
            self.networks["encoder"] = FeatureEncoder(
                features=config.features,
                width=config.encoder_width,
                halvings=config.halvings,
                norm=config.norm,
            )
            self.networks["clusters"] = FeatureClusters(config.num_classes, config.features)
        initialise(self.networks, gen)

    def layout(self, onehot: Tensor) -> Tensor:
        """Return what is known of where things are, [N,planes,H,W]: `onehot`, then edges."""
        if not self.config.edges:
            return onehot
        return torch.cat([onehot, edges(class_ids(onehot)).to(onehot)], dim=1)

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms "gan", "matching" and "perceptual", unused ones left out.

        The discriminator's scales are added up (Equation 2); feature matching is Equation 4.
        """
        layout = self.layout(batch.onehot)
        fake = self._render(layout, self._features(batch))
        seen = self._judge(layout, fake)
        terms = {"gan": self._adversarial(seen, real=True)}
        if self.config.matching_weight:
            with torch.no_grad():
                wanted = self._judge(layout, batch.img)
            per_map = 4 / (len(seen[0]) - 1)  # the public code's: as much as four maps give
            weight = self.config.matching_weight * per_map
            terms["matching"] = weight * feature_matching(seen, wanted)
        if self.perceptual is not None and self.config.perceptual_weight:
            distance = self.perceptual(fake, batch.img).mean()
            terms["perceptual"] = self.config.perceptual_weight * distance
        return terms

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms "real" and "fake", each halved."""
        layout = self.layout(batch.onehot)
        with torch.no_grad():
            fake = self._render(layout, self._features(batch))
        return {
            "fake": self._adversarial(self._judge(layout, fake), real=False) / 2,
            "real": self._adversarial(self._judge(layout, batch.img), real=True) / 2,
        }

    @torch.no_grad()
    def draw(self, onehot: Tensor, gen: torch.Generator) -> Tensor:
        """Return pictures [N,3,H,W] in [-1,1] for `onehot` [N,K,H,W].

        With features, each class takes the centre of one of its clusters at random: until
        `cluster` has found them all draws are the same.
        """
        planes = self.layout(onehot)
        feat = self._clusters.draw(onehot, gen) if self.config.features else None
        with batch_statistics(self.networks["generator"]):
            return self._render(planes, feat)

    @torch.no_grad()
    def cluster(self, batches: Iterable[Batch], gen: torch.Generator) -> None:
        """Cluster the features of all regions of the training pictures, class by class.

        Raises:
            ConfigError: The method was built without features, or there are no batches.
        """
        if not self.config.features:
            raise ConfigError("pix2pixHD without features has no clusters; build it with features")
        rows = [
            region_rows(self.networks["encoder"](batch.img), class_ids(batch.onehot))
            for batch in batches
        ]
        if not rows:
            raise ConfigError("no pictures to cluster; give the batches of the training set")
        joined = Rows(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
        self._clusters.fit(joined, gen)

    @property
    def _clusters(self) -> FeatureClusters:
        return cast(FeatureClusters, self.networks["clusters"])

    def _features(self, batch: Batch) -> Tensor | None:
        """Encode the pictures of `batch` to one feature vector a region, [N,C,H,W]."""
        if not self.config.features:
            return None
        return instance_average(self.networks["encoder"](batch.img), class_ids(batch.onehot))

    def _render(self, layout: Tensor, feat: Tensor | None) -> Tensor:
        planes = layout if feat is None else torch.cat([layout, feat], dim=1)
        return self.networks["generator"](planes)

    def _judge(self, layout: Tensor, img: Tensor) -> list[list[Tensor]]:
        return self.networks["discriminator"](torch.cat([layout, img], dim=1))

    def _adversarial(self, seen: Iterable[Maps], *, real: bool) -> Tensor:
        loss = ADVERSARIAL[self.config.adversarial]
        return torch.stack([loss(maps[-1], real=real) for maps in seen]).sum()
