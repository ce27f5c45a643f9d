"""SPADE: the label map scales and shifts every normalised feature (Park et al. 2019).

    method = Spade(SpadeConfig(num_classes=19, size=(256, 256)), stream(0, "spade"))
    terms = method.generator_loss(Batch(onehot, img, gen))

Names inside the networks are those of the public checkpoints.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.config import check_at_least, check_choice
from fewshot_smis.baselines.objective import Maps, feature_matching, wasserstein
from fewshot_smis.baselines.spectral import SpectralConv2d, initialise
from fewshot_smis.perceptual import PerceptualDistance
from stylegan.config import Config
from stylegan.errors import ConfigError
from stylegan.layers import SameConv
from stylegan.seeding import randn

SLOPE = 0.2
NORMS = ("batch", "instance")


def parameter_free_norm(norm: str, channels: int) -> nn.Module:
    """Return a normalisation without weights: over the batch, or over each picture."""
    check_choice("norm", norm, NORMS)
    kind = nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d
    return kind(channels, affine=False)


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


@dataclass(frozen=True, kw_only=True)
class SpadeConfig(Config):
    """The sizes of the networks and the weights of the objective; the defaults are the paper's."""

    num_classes: int
    size: tuple[int, int]  # height and width of the pictures, multiples of 2**doublings
    width: int = 64  # channels of the generator's last block and of the encoder's first
    discriminator_width: int = 64  # channels of the discriminator's first layer
    doublings: int = 5  # from the smallest map; 5, 6 or 7 in the paper
    layers: int = 4  # of each PatchGAN
    norm: str = "batch"  # inside SPADE: "batch" or "instance"
    hidden: int = 128  # channels in which a norm reads the map
    z_dim: int = 0  # length of the style that the image encoder gives (256); 0: no encoder
    feature_weight: float = 10.0  # of feature matching
    perceptual_weight: float = 10.0  # of a perceptual distance, where one is given
    kl_weight: float = 0.05  # of the styles' divergence

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("norm", self.norm, NORMS)
        check_choice("doublings", self.doublings, tuple(range(len(DOUBLING) + 2)))
        check_divisible(self.size, self.doublings)
        check_at_least(1, num_classes=self.num_classes, width=self.width, layers=self.layers)
        check_at_least(1, hidden=self.hidden)
        check_at_least(0, z_dim=self.z_dim, feature_weight=self.feature_weight)
        check_at_least(0, perceptual_weight=self.perceptual_weight, kl_weight=self.kl_weight)


def resized(planes: Tensor, x: Tensor) -> Tensor:
    """Bring `planes` [N,K,H,W] to the size of `x` [N,C,h,w], laid out channels last."""
    if planes.shape[2:] != x.shape[2:]:
        planes = F.interpolate(planes, x.shape[2:])
    return planes.contiguous(memory_format=torch.channels_last)


class SpadeNorm(nn.Module):
    """Normalise, then scale and shift each pixel as the map says (Equation 1 and 2)."""

    def __init__(self, channels: int, num_planes: int, norm: str, *, hidden: int = 128) -> None:
        super().__init__()
        self.param_free_norm = parameter_free_norm(norm, channels)
        self.mlp_shared = nn.Sequential(SameConv(num_planes, hidden), nn.ReLU())
        self.mlp_gamma = SameConv(hidden, channels)
        self.mlp_beta = SameConv(hidden, channels)

    def forward(self, x: Tensor, planes: Tensor) -> Tensor:
        """Modulate `x` [N,C,h,w] by `planes` [N,K,H,W] of any size."""
        hidden = self.mlp_shared(resized(planes, x))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SpadeBlock(nn.Module):
    """Two modulated convolutions, and a modulated shortcut where the width changes."""

    def __init__(
        self, in_channels: int, out_channels: int, num_planes: int, norm: str, *, hidden: int = 128
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm_0 = SpadeNorm(in_channels, num_planes, norm, hidden=hidden)
        self.conv_0 = SpectralConv2d(in_channels, middle, 3, padding=1)
        self.norm_1 = SpadeNorm(middle, num_planes, norm, hidden=hidden)
        self.conv_1 = SpectralConv2d(middle, out_channels, 3, padding=1)
        self.widens = in_channels != out_channels
        if self.widens:
            self.norm_s = SpadeNorm(in_channels, num_planes, norm, hidden=hidden)
            self.conv_s = SpectralConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, planes: Tensor) -> Tensor:
        """Turn `x` [N,I,h,w] into [N,O,h,w] under `planes` [N,K,H,W]."""
        planes = resized(planes, x)  # once for all norms
        shortcut = self.conv_s(self.norm_s(x, planes)) if self.widens else x
        x = self.conv_0(F.leaky_relu(self.norm_0(x, planes), SLOPE))
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(x, planes), SLOPE))


class SpadeGenerator(nn.Module):
    """From planes, and a style z or without, to pictures.

    Args:
        num_planes: Channels of the map: classes, and an edge plane if there is one.
        size: Height and width of the pictures, multiples of 2**doublings.
        width: Channels of the last block (64 in the paper).
        norm: "batch" or "instance".
        z_dim: Length of the style that the first layer reads; 0 to read the small map instead.
        doublings: 5, 6 or 7 in the paper ("normal", "more", "most"); fewer for small pictures.
        hidden: Channels in which the norms read the map (128 in the paper).
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
        hidden: int = 128,
    ) -> None:
        super().__init__()
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
            self.add_module(name, SpadeBlock(i, o, num_planes, norm, hidden=hidden))
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


def hinge(scores: Tensor, *, real: bool) -> Tensor:
    """Return how far `scores` fall short of 1 for real pictures, exceed -1 for drawn ones."""
    return F.relu(1 - scores if real else 1 + scores).mean()


def over_scales(loss: Callable[..., Tensor], maps: Sequence[Maps], *, real: bool) -> Tensor:
    """Return the `loss` of the scores, averaged over the scales."""
    return torch.stack([loss(scale[-1], real=real) for scale in maps]).mean()


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the divergence of N(mu, exp(logvar)) from N(0, I), summed over the batch [N,D]."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()


class Spade:
    """The method: generator, two-scale discriminator, and the image encoder if styles are wanted.

    `networks` holds "generator", "discriminator" and, where `z_dim` is not 0, "encoder";
    `perceptual` is the distance that `perceptual_weight` weighs, left out for None.
    """

    def __init__(
        self,
        config: SpadeConfig,
        gen: torch.Generator,
        perceptual: PerceptualDistance | None = None,
    ) -> None:
        """Build the networks with weights drawn from `gen`."""
        self.config, self.perceptual = config, perceptual
        generator = SpadeGenerator(
            config.num_classes,
            config.size,
            width=config.width,
            norm=config.norm,
            z_dim=config.z_dim,
            doublings=config.doublings,
            hidden=config.hidden,
        )
        discriminator = SpadeDiscriminator(
            config.num_classes + 3, width=config.discriminator_width, layers=config.layers
        )
        self.networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        if config.z_dim:
            side = min(256, 1 << (min(config.size).bit_length() - 1))
            encoder = StyleEncoder(width=config.width, z_dim=config.z_dim, input_size=side)
            self.networks["encoder"] = encoder
        initialise(self.networks, gen)

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return what generator and encoder minimise: gan, features, and the optional terms."""
        terms = {}
        z = None
        if self.config.z_dim:
            mu, logvar = self.networks["encoder"](batch.img)
            z = self._style(mu, logvar, batch)
            terms["kl"] = self.config.kl_weight * kl_divergence(mu, logvar)
        drawn = self.networks["generator"](batch.onehot, z)
        fake, real = self._judge(batch, drawn)
        terms["gan"] = over_scales(wasserstein, fake, real=True)
        terms["features"] = self.config.feature_weight * feature_matching(fake, real)
        if self.perceptual is not None:
            distance = self.perceptual(drawn, batch.img).mean()
            terms[self.perceptual.name] = self.config.perceptual_weight * distance
        return terms

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the discriminator minimises: real and fake."""
        with torch.no_grad():
            z = None
            if self.config.z_dim:
                mu, logvar = self.networks["encoder"](batch.img)
                z = self._style(mu, logvar, batch)
            drawn = self.networks["generator"](batch.onehot, z)
        fake, real = self._judge(batch, drawn)
        return {
            "real": over_scales(hinge, real, real=True),
            "fake": over_scales(hinge, fake, real=False),
        }

    @torch.no_grad()
    def draw(self, onehot: Tensor, gen: torch.Generator) -> Tensor:
        """Draw pictures [N,3,H,W] in [-1,1] for `onehot` [N,K,H,W], styles from N(0, I)."""
        z_dim = self.config.z_dim
        z = randn((len(onehot), z_dim), gen).to(onehot) if z_dim else None
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
