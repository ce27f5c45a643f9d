"""Judge pictures in a frozen network's features too, so that a generator learns from fewer.

A feature network trained on photographs knows edges, parts and things from the first step, while
a discriminator from scratch has to find them first. Its maps are mixed by random convolutions,
across channels and from coarse scales to fine, so that no head can settle for the few channels it
likes best, and a small head a scale says how real each place looks (projected GANs, Sauer et al.
2021). The heads work beside StyleGAN2's own discriminator, as in vision-aided GANs (Kumari et al.
2022): alone they lost the variety of faces within some thousand pictures (docs/model-card.md).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from stylegan.critic import Augmentation, Critic
from stylegan.discriminator import Discriminator
from stylegan.lite0 import Lite0
from stylegan.seeding import stream

SIDES = (128, 256)  # the feature network sees pictures whose shorter side lies between these
CONDITION_GAIN = 4.0  # of what a head says of the condition, beside its own logit


class FeatureMixing(nn.Module):
    """Feature maps, fine to coarse -> as many mixed maps of the same sizes; frozen and random."""

    def __init__(self, channels: Sequence[int], width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(len(channels))]
        self.channels = [widths[0], *widths[:-1]]
        self.across_channels = nn.ModuleList(
            nn.Conv2d(c, w, 1, bias=False) for c, w in zip(channels, widths, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(w, finer, 3, padding=1, bias=False)
            for w, finer in zip(widths, self.channels, strict=True)
        )
        gen = stream(0, "projected/mixing")
        for weight in self.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=gen)
        self.requires_grad_(False)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mix `maps` [N, C_i, H_i, W_i]; each mixed one adds to the next finer."""
        mixed: list[Tensor] = []
        for i in reversed(range(len(maps))):
            x = self.across_channels[i](maps[i])
            if mixed:
                coarse = F.interpolate(mixed[0], x.shape[2:], mode="bilinear")
                x = (x + coarse) * 0.5**0.5
            mixed.insert(0, self.across_scales[i](x))
        return mixed


class GroupNorm2d(nn.Module):
    """Normalise each channel over groups of pictures, as virtual batches; [N, C, H, W].

    Picture i falls into group i mod (N / size), so that processes which share a batch agree.
    """

    def __init__(self, channels: int, size: int = 8) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with zero mean and unit variance in each group and channel."""
        n, c, h, w = x.shape
        size = self.size if n % self.size == 0 else n
        y = x.float().reshape(size, n // size, c, h, w)
        var, mean = torch.var_mean(y, dim=(0, 3, 4), keepdim=True, correction=0)
        y = ((y - mean) * (var + 1e-5).rsqrt()).reshape(n, c, h, w)
        return (y * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class Head(nn.Module):
    """One mixed map [N, C, H, W] -> logits [N, 1, h, w], halved in size `halvings` times.

    A condition c [N, c_dim] adds what the place says for each of its parts, as in projection
    discriminators (Miyato & Koyama 2018). That is multiplied by `CONDITION_GAIN`: spectral norm
    bounds the slope of each map by 1, too flat for a detail of the picture to count.
    """

    def __init__(self, channels: int, halvings: int, c_dim: int = 0, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(halvings):
            conv = nn.Conv2d(channels if i == 0 else width, width, 4, 2, 1, bias=False)
            layers += [spectral_norm(conv), GroupNorm2d(width), nn.LeakyReLU(0.2)]
        last = nn.Conv2d(width if halvings else channels, width, 3, padding=1)
        layers += [spectral_norm(last), nn.LeakyReLU(0.2), spectral_norm(nn.Conv2d(width, 1, 1))]
        self.layers = nn.Sequential(*layers)
        self.condition = spectral_norm(nn.Conv2d(width, c_dim, 1)) if c_dim else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Judge each place of `x` under `c`; higher is more real."""
        x = self.layers[:-1](x)
        logits = self.layers[-1](x)
        if self.condition is None or c is None:
            return logits
        votes = (self.condition(x) * c[:, :, None, None]).sum(dim=1, keepdim=True)
        return logits + CONDITION_GAIN * votes


class Projection(nn.Module):
    """img [N, 3, H, W] in [-1, 1] -> mixed feature maps at strides 4, 8, 16, 32; frozen."""

    def __init__(self, backbone: Lite0) -> None:
        super().__init__()
        self.backbone = backbone
        self.mixing = FeatureMixing(backbone.channels)
        self.requires_grad_(False)

    def forward(self, img: Tensor) -> list[Tensor]:
        """Return the maps, fine to coarse; gradients pass through to `img`."""
        low, high = SIDES
        short = min(img.shape[2:])
        if not low <= short <= high:
            scale = (low if short < low else high) / short
            size = [round(side * scale) for side in img.shape[2:]]
            img = F.interpolate(img, size, mode="bilinear", antialias=scale < 1)
        img = img.contiguous(memory_format=torch.channels_last)
        return self.mixing(self.backbone.features(img))


def build_heads(
    channels: Sequence[int], side: int, strides: Sequence[int], c_dim: int = 0
) -> nn.ModuleList:
    """Return a head a scale; each halves its map until 4 to 7 px are left of the shorter side."""
    side = min(max(side, SIDES[0]), SIDES[1])
    halvings = [max((side // stride // 4).bit_length() - 1, 0) for stride in strides]
    heads = [Head(width, n, c_dim) for width, n in zip(channels, halvings, strict=True)]
    return nn.ModuleList(heads)


class ProjectedCritic(Critic):
    """StyleGAN2's critic and heads on frozen features; the heads play by the hinge loss.

    Pictures that leave [-1, 1] cost the generator, because the features saturate there and could
    not tell it the way back.
    """

    def __init__(
        self,
        network: Discriminator,
        backbone: Lite0,
        *,
        weight: float = 0.5,  # of the heads' mean loss beside the logistic one
        r1_gamma: float,
        interval: int = 16,
        augmentation: Augmentation | None = None,
        c_dim: int | None = None,  # of the heads' conditions; None: the network's
    ) -> None:
        super().__init__(network, r1_gamma=r1_gamma, interval=interval, augmentation=augmentation)
        self.projection = Projection(backbone)
        height, width = network.config.img_size
        channels = self.projection.mixing.channels
        c_dim = network.c_dim if c_dim is None else c_dim
        self.heads = build_heads(channels, min(height, width), backbone.strides, c_dim)
        self.network = nn.ModuleList([network, self.heads])
        self.weight = weight

    def discriminator_loss(self, real: Tensor, fake: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the logistic loss and the heads' hinge loss."""
        real, fake = self.show(real), self.show(fake)
        pairs = list(zip(self.verdicts(real, c), self.verdicts(fake, c), strict=True))
        hinge = sum(F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in pairs)
        return self.logistic_loss(real, fake, c) + self.weight / len(pairs) * hinge

    def generator_loss(self, fake: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the non-saturating loss, the heads' verdicts, and what leaves [-1, 1]."""
        shown = self.show(fake)
        verdicts = self.verdicts(shown, c)
        heads = -sum(logits.mean() for logits in verdicts) * (self.weight / len(verdicts))
        outside = F.relu(fake.abs() - 1).square().mean()
        return self.nonsaturating_loss(shown, c) + heads + outside

    def verdicts(self, shown: Tensor, c: Tensor | None = None) -> list[Tensor]:
        """Return the heads' logits [N, 1, h, w], float32, of pictures as they are shown."""
        maps = self.projection(shown)
        return [head(x, c).float() for head, x in zip(self.heads, maps, strict=True)]

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Give the heads, which have no equalised learning rate, a fifth of `lr`."""
        heads = {"params": list(self.heads.parameters()), "lr": lr / 5}
        return [*super().parameter_groups(lr), heads]

    def state_dict(self) -> dict[str, Any]:
        """Return the heads besides what the plain critic keeps."""
        return {**super().state_dict(), "heads": self.heads.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.heads.load_state_dict(state["heads"])
