"""OASIS: a discriminator that segments, and noise in three dimensions (Schonfeld et al. 2021).

    method = Oasis(OasisConfig(num_classes=19, size=(256, 256)), stream(0, "oasis"))
    terms = method.generator_loss(Batch(onehot, img, gen))

The discriminator sorts each pixel into one of the K classes or, as channel 0, into "drawn"; the
generator wants its pixels sorted into the classes of the map. Names inside the networks are those
of the public checkpoints but for the norms' statistics, which `from_public` renames.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.config import check_at_least, check_choice
from fewshot_smis.baselines.spade import NORMS, SLOPE, SpadeBlock, check_divisible
from fewshot_smis.baselines.spectral import SpectralConv2d, initialise
from fewshot_smis.perceptual import PerceptualDistance
from stylegan.config import Config
from stylegan.errors import ConfigError
from stylegan.seeding import randint, randn

LEVELS = ("image", "region", "pixel", "mixed")
GENERATOR_WIDTHS = (16, 16, 16, 8, 4, 2, 1)
DISCRIMINATOR_WIDTHS = (2, 2, 4, 4, 8, 8)


@dataclass(frozen=True, kw_only=True)
class OasisConfig(Config):
    """The sizes of both networks and the weights of the objective; the defaults are the paper's."""

    num_classes: int
    size: tuple[int, int]  # height and width of the pictures, multiples of 2**blocks
    width: int = 64  # channels of the generator's last block
    discriminator_width: int = 64  # channels of the discriminator's last block
    blocks: int = 6  # of the generator, and of each half of the discriminator
    norm: str = "batch"  # "batch" or "instance"
    hidden: int = 128  # channels in which a norm reads the map
    z_dim: int = 64  # channels of the noise
    noise: str = "image"  # level of the noise: "image", "region", "pixel" or "mixed"
    balanced: bool = True  # rare classes count as much as frequent ones
    unknown_first: bool = False  # class 0 is unknown and does not count
    labelmix_weight: float = 10.0  # 0: no LabelMix
    perceptual_weight: float = 0.0  # of a perceptual distance; 10 in the comparison with VGG

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("norm", self.norm, NORMS)
        check_choice("noise", self.noise, LEVELS)
        check_choice("blocks", self.blocks, (2, 3, 4, 5, 6))
        check_divisible(self.size, self.blocks)
        check_at_least(1, num_classes=self.num_classes, z_dim=self.z_dim, width=self.width)
        check_at_least(1, hidden=self.hidden)
        check_at_least(
            0, labelmix_weight=self.labelmix_weight, perceptual_weight=self.perceptual_weight
        )


def noise_3d(onehot: Tensor, z_dim: int, level: str, gen: torch.Generator) -> Tensor:
    """Draw noise [N,z_dim,H,W] for the maps `onehot` [N,K,H,W].

    Args:
        onehot: The maps.
        z_dim: Channels.
        level: "image": one vector a map; "region": one a class of the map; "pixel": one a pixel;
            "mixed": for each map one of these three at random.
        gen: Where the draws come from.
    """
    check_choice("noise", level, LEVELS)
    num, classes, height, width = onehot.shape
    if level == "image":
        return randn((num, z_dim, 1, 1), gen).to(onehot).expand(-1, -1, height, width)
    if level == "region":
        vectors = randn((num, classes, z_dim), gen).to(onehot)
        return torch.einsum("nkhw,nkz->nzhw", onehot, vectors)
    if level == "pixel":
        return randn((num, z_dim, height, width), gen).to(onehot)
    levels = torch.stack([noise_3d(onehot, z_dim, one, gen) for one in LEVELS[:3]])
    which = randint(3, (num,), gen).to(onehot.device)
    return levels[which, torch.arange(num, device=onehot.device)]


class OasisGenerator(nn.Module):
    """SPADE blocks that read noise beside the map at every layer, from the smallest map on."""

    def __init__(self, config: OasisConfig) -> None:
        super().__init__()
        widths = [config.width * k for k in GENERATOR_WIDTHS[-config.blocks - 1 :]]
        planes = config.z_dim + config.num_classes
        height, width = config.size
        self.start = (height >> (config.blocks - 1), width >> (config.blocks - 1))
        self.fc = nn.Conv2d(planes, widths[0], 3, padding=1)
        self.body = nn.ModuleList(
            SpadeBlock(i, o, planes, config.norm, hidden=config.hidden) for i, o in pairwise(widths)
        )
        self.conv_img = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, onehot: Tensor, noise: Tensor) -> Tensor:
        """Draw pictures [N,3,H,W] in [-1,1] of `onehot` [N,K,H,W] with `noise` [N,Z,H,W]."""
        planes = torch.cat([noise, onehot], dim=1)
        planes = planes.contiguous(memory_format=torch.channels_last)  # as its norms read it
        x = self.fc(F.interpolate(planes, self.start))
        for i, block in enumerate(self.body):
            if i:
                x = F.interpolate(x, scale_factor=2)
            x = block(x, planes)
        return torch.tanh(self.conv_img(F.leaky_relu(x, SLOPE)))


class _Residual(nn.Module):
    """Two convolutions beside a shortcut: what the halves of the U-Net have in common."""

    def __init__(self, in_channels: int, out_channels: int, conv1: list[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*conv1, SpectralConv2d(in_channels, out_channels, 3, padding=1))
        second = SpectralConv2d(out_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Sequential(nn.LeakyReLU(SLOPE), second)
        self.conv_s: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.conv_s = SpectralConv2d(in_channels, out_channels, 1)


class _Down(_Residual):
    """Halve the size; the first block reads the picture itself."""

    def __init__(self, in_channels: int, out_channels: int, *, first: bool) -> None:
        super().__init__(in_channels, out_channels, [] if first else [nn.LeakyReLU(SLOPE)])
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        residual = F.avg_pool2d(self.conv2(self.conv1(x)), 2)
        if self.first:
            return residual + self.conv_s(F.avg_pool2d(x, 2))
        return residual + F.avg_pool2d(self.conv_s(x), 2)


class _Up(_Residual):
    """Double the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        larger = nn.Upsample(scale_factor=2)
        super().__init__(in_channels, out_channels, [nn.LeakyReLU(SLOPE), larger])

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + self.conv_s(F.interpolate(x, scale_factor=2))


class OasisDiscriminator(nn.Module):
    """A segmentation U-Net with one class more than the maps: channel 0 is "drawn"."""

    def __init__(self, config: OasisConfig) -> None:
        super().__init__()
        base = config.discriminator_width
        down = [3, *(base * k for k in DISCRIMINATOR_WIDTHS[: config.blocks])]
        self.body_down = nn.ModuleList(
            _Down(i, o, first=n == 0) for n, (i, o) in enumerate(pairwise(down))
        )
        out = [*down[-2:0:-1], base]
        into = [down[-1], *(2 * channels for channels in out[:-1])]
        self.body_up = nn.ModuleList(_Up(i, o) for i, o in zip(into, out, strict=True))
        self.layer_up_last = nn.Conv2d(base, config.num_classes + 1, 1)

    def forward(self, img: Tensor) -> Tensor:
        """Return logits [N,K+1,H,W] of the pixels of `img` [N,3,H,W] in [-1,1]."""
        seen = [img]
        for block in self.body_down:
            seen.append(block(seen[-1]))
        x = self.body_up[0](seen[-1])
        for i, block in enumerate(self.body_up[1:]):
            x = block(torch.cat([seen[-i - 2], x], dim=1))
        return self.layer_up_last(x)


def from_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a public checkpoint of either network under the names used here."""
    return {name.replace(".first_norm.", ".param_free_norm."): w for name, w in state.items()}


def class_weights(onehot: Tensor, *, unknown_first: bool = False) -> Tensor:
    """Return weights [K] inverse to how often a class occurs in `onehot` [N,K,H,W].

    All classes present together weigh the same, and the mean over the pixels is 1 (Equation 1).
    Classes that are absent, and with `unknown_first` class 0, weigh nothing.
    """
    counts = onehot.sum(dim=(0, 2, 3))
    if unknown_first:
        counts[0] = 0
    present = counts > 0
    pixels = onehot.numel() / onehot.shape[1]
    return torch.where(present, pixels / (present.sum() * counts.clamp(min=1)), 0)


def segmentation_loss(logits: Tensor, onehot: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy of `logits` [N,K+1,H,W] against the maps, classes weighted [K]."""
    per_pixel = F.cross_entropy(logits, onehot.argmax(dim=1) + 1, reduction="none")
    return (torch.einsum("nkhw,k->nhw", onehot, weights) * per_pixel).mean()


def drawn_loss(logits: Tensor) -> Tensor:
    """Return the cross-entropy of `logits` [N,K+1,H,W] against "drawn" everywhere."""
    return -logits.log_softmax(dim=1)[:, 0].mean()


def labelmix_mask(onehot: Tensor, coins: Tensor) -> Tensor:
    """Return a mask [N,1,H,W] that is 0 or 1 on whole classes: `coins` [K] says which."""
    return coins[onehot.argmax(dim=1, keepdim=True)].to(onehot)


def mix(mask: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Return `real` where `mask` is 1, `fake` where it is 0."""
    return mask * real + (1 - mask) * fake


class Oasis:
    """The method: generator, segmenting discriminator, and their objectives.

    `perceptual` is the distance that `perceptual_weight` weighs; ConfigError without one.
    """

    def __init__(
        self,
        config: OasisConfig,
        gen: torch.Generator,
        perceptual: PerceptualDistance | None = None,
    ) -> None:
        """Build both networks with weights drawn from `gen`."""
        if config.perceptual_weight and perceptual is None:
            raise ConfigError("perceptual_weight needs a distance: give perceptual, or weight 0")
        self.config, self.perceptual = config, perceptual
        self.networks = nn.ModuleDict(
            {"generator": OasisGenerator(config), "discriminator": OasisDiscriminator(config)}
        )
        # drawn as small as SPADE's, the discriminator, which normalises nothing, answers with huge
        # numbers in the first steps, and then with one for all pictures
        initialise(self.networks, gen, spectral=1.0)

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms "segmentation" and, if it has a weight, the perceptual distance's."""
        img = self._draw(batch.onehot, self.config.noise, batch.source())
        logits = self.networks["discriminator"](img)
        terms = {"segmentation": segmentation_loss(logits, batch.onehot, self._weights(batch))}
        if self.perceptual is not None and self.config.perceptual_weight:
            distance = self.perceptual(img, batch.img).mean()
            terms[self.perceptual.name] = self.config.perceptual_weight * distance
        return terms

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms "real", "fake" and "labelmix" (Equations 1 and 3)."""
        gen, judge = batch.source(), self.networks["discriminator"]
        with torch.no_grad():
            img = self._draw(batch.onehot, self.config.noise, gen)
        fake, real = judge(img), judge(batch.img)
        terms = {
            "real": segmentation_loss(real, batch.onehot, self._weights(batch)),
            "fake": drawn_loss(fake),
        }
        if self.config.labelmix_weight:
            coins = randint(2, (self.config.num_classes,), gen).to(batch.onehot.device)
            mask = labelmix_mask(batch.onehot, coins)
            mixed = judge(mix(mask, batch.img, img))
            distance = F.mse_loss(mixed, mix(mask, real, fake))
            terms["labelmix"] = self.config.labelmix_weight * distance
        return terms

    @torch.no_grad()
    def draw(self, onehot: Tensor, gen: torch.Generator, *, noise: str | None = None) -> Tensor:
        """Draw pictures [N,3,H,W] in [-1,1] for `onehot` [N,K,H,W].

        `noise` is the level of the noise; by default that of training.
        """
        return self._draw(onehot, self.config.noise if noise is None else noise, gen)

    def _draw(self, onehot: Tensor, level: str, gen: torch.Generator) -> Tensor:
        noise = noise_3d(onehot, self.config.z_dim, level, gen)
        return self.networks["generator"](onehot, noise)

    def _weights(self, batch: Batch) -> Tensor:
        unknown_first = self.config.unknown_first
        weights = class_weights(batch.onehot, unknown_first=unknown_first)
        return weights if self.config.balanced else (weights > 0).to(weights)
