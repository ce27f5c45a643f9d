"""SPADE: the label map scales and shifts every normalised feature (Park et al. 2019).

    method = Spade(num_classes=19, size=(256, 256))
    terms = method.generator_loss(Batch(onehot, img))

Names inside the networks are those of the public checkpoints.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.spectral import SpectralConv2d, initialise
from fewshot_smis.perceptual import PerceptualDistance
from stylegan.errors import ConfigError
from stylegan.seeding import randn, stream

SLOPE = 0.2
NORMS = ("batch", "instance")


def parameter_free_norm(norm: str, channels: int) -> nn.Module:
    """Return a normalisation without weights: over the batch, or over each picture."""
    if norm not in NORMS:
        raise ConfigError(f"norm {norm!r} is unknown; choose one of {', '.join(NORMS)}")
    kind = nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d
    return kind(channels, affine=False)


class SpadeNorm(nn.Module):
    """Normalise, then scale and shift each pixel as the map says (Equation 1 and 2)."""

    def __init__(self, channels: int, num_planes: int, norm: str, *, hidden: int = 128) -> None:
        super().__init__()
        self.param_free_norm = parameter_free_norm(norm, channels)
        self.mlp_shared = nn.Sequential(nn.Conv2d(num_planes, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, planes: Tensor) -> Tensor:
        """Modulate `x` [N,C,h,w] by `planes` [N,K,H,W] of any size."""
        hidden = self.mlp_shared(F.interpolate(planes, x.shape[2:]))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SpadeBlock(nn.Module):
    """Two modulated convolutions, and a modulated shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, num_planes: int, norm: str) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm_0 = SpadeNorm(in_channels, num_planes, norm)
        self.conv_0 = SpectralConv2d(in_channels, middle, 3, padding=1)
        self.norm_1 = SpadeNorm(middle, num_planes, norm)
        self.conv_1 = SpectralConv2d(middle, out_channels, 3, padding=1)
        self.widens = in_channels != out_channels
        if self.widens:
            self.norm_s = SpadeNorm(in_channels, num_planes, norm)
            self.conv_s = SpectralConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, planes: Tensor) -> Tensor:
        """Turn `x` [N,I,h,w] into [N,O,h,w] under `planes` [N,K,H,W]."""
        shortcut = self.conv_s(self.norm_s(x, planes)) if self.widens else x
        x = self.conv_0(F.leaky_relu(self.norm_0(x, planes), SLOPE))
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(x, planes), SLOPE))


BLOCKS = {
    "head_0": (16, 16),
    "G_middle_0": (16, 16),
    "G_middle_1": (16, 16),
    "up_0": (16, 8),
    "up_1": (8, 4),
    "up_2": (4, 2),
    "up_3": (2, 1),
}
"""The generator's blocks: channels in and out, in multiples of its width."""
DOUBLING = ("up_3", "up_2", "up_1", "up_0", "G_middle_0", "G_middle_1")
"""The blocks whose input is doubled, in the order in which a larger doubling takes them in."""


def check_divisible(size: tuple[int, int], doublings: int) -> None:
    """Raise ConfigError unless both sides of `size` (H, W) can be halved that often."""
    if any(side % 2**doublings or side <= 0 for side in size):
        raise ConfigError(
            f"size {size[0]} x {size[1]}: both sides must be multiples of {2**doublings}, "
            f"for {doublings} doublings; choose another size or fewer doublings"
        )


class SpadeGenerator(nn.Module):
    """From planes, and a style z or without, to pictures.

    Args:
        num_planes: Channels of the map: classes, and an edge plane if there is one.
        size: Height and width of the pictures, multiples of 2**doublings.
        width: Channels of the last block (64 in the paper).
        norm: "batch" or "instance".
        z_dim: Length of the style that the first layer reads; 0 to read the small map instead.
        doublings: 5, 6 or 7 in the paper ("normal", "more", "most"); fewer for small pictures.
    """

    def __init__(
        self,
        num_planes: int,
        size: tuple[int, int],
        *,
        width: int = 64,
        norm: str = "batch",
        z_dim: int = 0,
        doublings: int = 5,
    ) -> None:
        super().__init__()
        if not 0 <= doublings <= len(DOUBLING) + 1:
            raise ConfigError(f"{doublings} doublings: choose 0 to {len(DOUBLING) + 1}")
        check_divisible(size, doublings)
        self.start = (size[0] >> doublings, size[1] >> doublings)
        self.z_dim = z_dim
        if z_dim:
            self.fc: nn.Module = nn.Linear(z_dim, 16 * width * self.start[0] * self.start[1])
        else:
            self.fc = nn.Conv2d(num_planes, 16 * width, 3, padding=1)
        self.doubled = {*DOUBLING[:doublings], "up_4"}
        widths = {name: (i * width, o * width) for name, (i, o) in BLOCKS.items()}
        if doublings > len(DOUBLING):
            widths["up_4"] = (width, width // 2)
        self.blocks = tuple(widths)
        for name, (i, o) in widths.items():
            self.add_module(name, SpadeBlock(i, o, num_planes, norm))
        self.conv_img = nn.Conv2d(widths[self.blocks[-1]][1], 3, 3, padding=1)

    def forward(self, planes: Tensor, z: Tensor | None = None) -> Tensor:
        """Draw pictures [N,3,H,W] in [-1,1] of `planes` [N,K,H,W] in the style `z` [N,D]."""
        if self.z_dim:
            if z is None:
                raise ConfigError("this generator reads a style: give z, of N(0, I) or encoded")
            x = self.fc(z).unflatten(1, (-1, *self.start))
        else:
            x = self.fc(F.interpolate(planes, self.start))
        for name in self.blocks:
            if name in self.doubled:
                x = F.interpolate(x, scale_factor=2)
            x = self.get_submodule(name)(x, planes)
        return torch.tanh(self.conv_img(F.leaky_relu(x, SLOPE)))


class StyleEncoder(nn.Module):
    """From a picture to the mean and log variance of its style.

    Pictures are first brought to `input_size` (256 in the paper), then halved down to 4 x 4.
    """

    def __init__(self, *, width: int = 64, z_dim: int = 256, input_size: int = 256) -> None:
        super().__init__()
        self.input_size = input_size
        self.halvings = input_size.bit_length() - 3
        if self.halvings < 1 or input_size != 4 << self.halvings:
            raise ConfigError(f"style encoder of {input_size} px: choose 8, 16, .. 256, 512")
        channels = 3
        for i in range(self.halvings):
            out = width << min(i, 3)
            conv = SpectralConv2d(channels, out, 3, stride=2, padding=1, bias=False)
            self.add_module(f"layer{i + 1}", nn.Sequential(conv, nn.InstanceNorm2d(out)))
            channels = out
        self.fc_mu = nn.Linear(channels * 16, z_dim)
        self.fc_var = nn.Linear(channels * 16, z_dim)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each [N,D], of `img` [N,3,H,W] in [-1,1]."""
        side = self.input_size
        if img.shape[2:] != (side, side):
            img = F.interpolate(img, (side, side), mode="bilinear")
        x = self.get_submodule("layer1")(img)
        for i in range(1, self.halvings):
            x = self.get_submodule(f"layer{i + 1}")(F.leaky_relu(x, SLOPE))
        x = F.leaky_relu(x, SLOPE).flatten(1)
        return self.fc_mu(x), self.fc_var(x)


class SpadePatches(nn.Module):
    """PatchGAN with spectral and instance norm: how real is each patch of a picture and its map?"""

    def __init__(self, in_channels: int, *, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.layers = layers + 1
        first = nn.Conv2d(in_channels, width, 4, stride=2, padding=2)
        self.model0 = nn.Sequential(first, nn.LeakyReLU(SLOPE))
        channels = width
        for i in range(1, layers):
            out = min(2 * channels, 8 * width)
            stride = 1 if i == layers - 1 else 2
            conv = SpectralConv2d(channels, out, 4, stride=stride, padding=2, bias=False)
            normed = nn.Sequential(conv, nn.InstanceNorm2d(out))
            self.add_module(f"model{i}", nn.Sequential(normed, nn.LeakyReLU(SLOPE)))
            channels = out
        last = nn.Sequential(nn.Conv2d(channels, 1, 4, padding=2))
        self.add_module(f"model{layers}", last)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every layer of `x` [N,K+3,H,W], scores [N,1,h,w] last."""
        maps = []
        for i in range(self.layers):
            x = self.get_submodule(f"model{i}")(x)
            maps.append(x)
        return maps


class SpadeDiscriminator(nn.Module):
    """The same PatchGAN at several scales, each half the size of the one before."""

    def __init__(
        self, in_channels: int, *, width: int = 64, layers: int = 4, scales: int = 2
    ) -> None:
        super().__init__()
        self.scales = scales
        for i in range(scales):
            patches = SpadePatches(in_channels, width=width, layers=layers)
            self.add_module(f"discriminator_{i}", patches)

    def forward(self, planes: Tensor, img: Tensor) -> list[list[Tensor]]:
        """Return for each scale the maps of every layer, for `img` under `planes` [N,K,H,W]."""
        x = torch.cat([planes, img], dim=1)
        out = []
        for i in range(self.scales):
            out.append(self.get_submodule(f"discriminator_{i}")(x))
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return out


class Objective(NamedTuple):
    """What scores cost: those of real pictures, of drawn ones, and of drawn ones as real."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


OBJECTIVES = {
    "hinge": Objective(lambda s: F.relu(1 - s), lambda s: F.relu(1 + s), lambda s: -s),
    "ls": Objective(lambda s: (s - 1) ** 2, lambda s: s**2, lambda s: (s - 1) ** 2),
    "original": Objective(lambda s: F.softplus(-s), F.softplus, lambda s: F.softplus(-s)),
    "w": Objective(lambda s: -s, lambda s: s, lambda s: -s),
}
"""Hinge (the paper's), least squares, cross-entropy, Wasserstein."""


def over_scales(cost: Callable[[Tensor], Tensor], maps: list[list[Tensor]]) -> Tensor:
    """Return the mean cost of the scores, averaged over the scales."""
    return torch.stack([cost(scale[-1]).mean() for scale in maps]).mean()


def feature_matching(fake: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    """Return the L1 distance of all maps but the scores, summed over layers, averaged over scales.

    The real maps are fixed (Wang et al. 2018, Equation 4).
    """
    pairs = [
        F.l1_loss(ours, theirs.detach())
        for ours_scale, theirs_scale in zip(fake, real, strict=True)
        for ours, theirs in zip(ours_scale[:-1], theirs_scale[:-1], strict=True)
    ]
    return torch.stack(pairs).sum() / len(fake)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the divergence of N(mu, exp(logvar)) from N(0, I), summed over the batch [N,D]."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()


class Spade:
    """The method: generator, two-scale discriminator, and the image encoder if styles are wanted.

    Args:
        num_classes: Planes of the maps.
        size: Height and width of the pictures.
        width: Channels of the generator's last block, and of encoder and discriminator's first.
        norm: Inside SPADE, "batch" or "instance".
        z_dim: Length of the style that the image encoder gives (256 in the paper); 0 without one.
        doublings: Of the generator; by default 5, or as many as leave 4 pixels to start from.
        objective: "hinge", "ls", "original" or "w".
        layers: Of each PatchGAN.
        perceptual: Distance between drawn and real pictures, or None.
        perceptual_weight: Of that distance.
        feature_weight: Of feature matching.
        kl_weight: Of the encoder's divergence.
        seed: Of the first weights.
    """

    def __init__(
        self,
        num_classes: int,
        size: tuple[int, int],
        *,
        width: int = 64,
        norm: str = "batch",
        z_dim: int = 0,
        doublings: int | None = None,
        objective: str = "hinge",
        layers: int = 4,
        perceptual: PerceptualDistance | None = None,
        perceptual_weight: float = 10.0,
        feature_weight: float = 10.0,
        kl_weight: float = 0.05,
        seed: int = 0,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ConfigError(f"objective {objective!r}: choose one of {', '.join(OBJECTIVES)}")
        if doublings is None:
            doublings = min(5, max(min(size).bit_length() - 3, 0))
        self.objective = OBJECTIVES[objective]
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight
        self.feature_weight, self.kl_weight, self.z_dim = feature_weight, kl_weight, z_dim
        generator = SpadeGenerator(
            num_classes, size, width=width, norm=norm, z_dim=z_dim, doublings=doublings
        )
        discriminator = SpadeDiscriminator(num_classes + 3, width=width, layers=layers)
        self.networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        if z_dim:
            side = min(256, 1 << (min(size).bit_length() - 1))
            encoder = StyleEncoder(width=width, z_dim=z_dim, input_size=side)
            self.networks["encoder"] = encoder
        initialise(self.networks, stream(seed, "spade weights"))

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return what generator and encoder minimise: gan, features, and the optional terms."""
        terms = {}
        z = None
        if self.z_dim:
            mu, logvar = self.networks["encoder"](batch.img)
            z = self._style(mu, logvar, batch)
            terms["kl"] = self.kl_weight * kl_divergence(mu, logvar)
        drawn = self.networks["generator"](batch.onehot, z)
        fake, real = self._judge(batch, drawn)
        terms["gan"] = over_scales(self.objective.generator, fake)
        terms["features"] = self.feature_weight * feature_matching(fake, real)
        if self.perceptual is not None:
            distance = self.perceptual(drawn, batch.img).mean()
            terms[self.perceptual.name] = self.perceptual_weight * distance
        return terms

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the discriminator minimises: real and fake."""
        with torch.no_grad():
            z = None
            if self.z_dim:
                mu, logvar = self.networks["encoder"](batch.img)
                z = self._style(mu, logvar, batch)
            drawn = self.networks["generator"](batch.onehot, z)
        fake, real = self._judge(batch, drawn)
        return {
            "real": over_scales(self.objective.real, real),
            "fake": over_scales(self.objective.fake, fake),
        }

    @torch.no_grad()
    def draw(self, onehot: Tensor, gen: torch.Generator) -> Tensor:
        """Draw pictures [N,3,H,W] in [-1,1] for `onehot` [N,K,H,W], styles from N(0, I)."""
        z = randn((len(onehot), self.z_dim), gen).to(onehot) if self.z_dim else None
        return self.networks["generator"](onehot, z)

    def _style(self, mu: Tensor, logvar: Tensor, batch: Batch) -> Tensor:
        return mu + torch.exp(0.5 * logvar) * randn(mu.shape, batch.source()).to(mu)

    def _judge(self, batch: Batch, drawn: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Return the discriminator's maps of the drawn and of the real pictures, in one pass."""
        both = torch.cat([drawn, batch.img])
        maps = self.networks["discriminator"](torch.cat([batch.onehot] * 2), both)
        n = len(drawn)
        fake = [[layer[:n] for layer in scale] for scale in maps]
        return fake, [[layer[n:] for layer in scale] for scale in maps]
