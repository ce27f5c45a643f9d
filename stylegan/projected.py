"""The projected discriminator (Sauer et al. 2021): judge pictures by frozen ImageNet features.

A frozen network's maps at four strides are mixed by fixed random convolutions, across channels
and from coarse to fine, and a small discriminator judges each. One more head sees the pixels
themselves, because features of stride 4 leave the finest texture free.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from stylegan.lite0 import Lite0


class ProjectedDiscriminator(nn.Module):
    """img [N, 3, H, W] in [-1, 1] -> logits [N, M], all heads' positions side by side."""

    def __init__(
        self,
        backbone: Lite0,  # frozen feature network, not part of the state dict
        *,
        width: int = 64,  # channels of the mixed features and of the heads
        input_size: int = 128,  # pictures are enlarged to this side before the backbone
    ) -> None:
        super().__init__()
        self.input_size = input_size
        object.__setattr__(self, "backbone", backbone)
        channels = backbone.channels
        self.across = nn.ModuleList([frozen_conv(c, width, 1) for c in channels])
        self.down = nn.ModuleList([frozen_conv(width, width, 3) for _ in channels])
        side = input_size // 4
        depths = [max((side >> i).bit_length() - 3, 0) for i in range(len(channels))]
        self.heads = nn.ModuleList([head(width, width, depth) for depth in depths])
        self.pixels = head(3, 32, 3)

    def forward(self, img: Tensor) -> Tensor:
        """Judge pictures at every scale; higher is more real."""
        size = (self.input_size, self.input_size)
        big = F.interpolate(img, size=size, mode="bilinear", align_corners=False)
        maps = self.backbone.features(big.contiguous(memory_format=torch.channels_last))
        logits = [self.pixels(img)]
        above: Tensor | None = None
        for i in reversed(range(len(maps))):
            x = self.across[i](maps[i])
            if above is not None:
                x = x + F.interpolate(above, size=x.shape[2:], mode="bilinear")
            above = self.down[i](x)
            logits.append(self.heads[i](above))
        return torch.cat([x.flatten(1) for x in logits], dim=1)


def frozen_conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    """Return a random convolution that is never trained."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    return conv.requires_grad_(False)


def head(in_channels: int, width: int, depth: int) -> nn.Sequential:
    """Return a small discriminator: `depth` halvings, then one logit a position."""
    layers: list[nn.Module] = []
    for i in range(depth):
        out = min(width * 2**i, 2 * width)
        conv = nn.Conv2d(in_channels, out, 4, stride=2, padding=1, bias=False)
        layers += [spectral_norm(conv), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
        in_channels = out
    conv = nn.Conv2d(in_channels, width, 3, padding=1)
    layers += [spectral_norm(conv), nn.LeakyReLU(0.2)]
    layers.append(spectral_norm(nn.Conv2d(width, 1, 1)))
    return nn.Sequential(*layers)
