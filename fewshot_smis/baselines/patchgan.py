"""PatchGAN: is each patch of a picture real (Isola et al. 2017, section 2.2.2)?

Names inside the network are those of the public checkpoints: `model.N`, and `net.N` for pixels.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from fewshot_smis.baselines.config import check_at_least, check_choice
from fewshot_smis.baselines.layers import NORMS, check_planes, norm_layer
from stylegan.config import Config

HALVINGS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""The side of a patch in pixels -> how often its network halves the picture."""

SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class PatchConfig(Config):
    """The sizes of a PatchGAN."""

    in_channels: int  # of the condition, if there is one, and of the picture
    patch: int = 70  # side of what one score sees, in pixels: 1, 16, 34, 70, 142 or 286
    width: int = 64  # channels of the first layer
    norm: str = "batch"  # "batch", "instance" or "none"

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("patch", self.patch, tuple(HALVINGS))
        check_choice("norm", self.norm, NORMS)
        check_at_least(1, in_channels=self.in_channels, width=self.width)


def patch_groups(
    in_channels: int,
    width: int,
    halvings: int,
    *,
    widest: int,
    padding: int,
    norm: str,
    bias: bool,
) -> list[list[nn.Module]]:
    """Return the layers of a PatchGAN, one list for each map it makes, the scores last.

    Channels double from `width` to `widest`. Convolutions before a norm have a bias if `bias`.
    """
    first = nn.Conv2d(in_channels, width, 4, stride=2, padding=padding)
    groups: list[list[nn.Module]] = [[first, nn.LeakyReLU(SLOPE)]]
    channels = width
    for i in range(1, halvings + 1):
        out = min(width << i, widest)
        stride = 2 if i < halvings else 1
        conv = nn.Conv2d(channels, out, 4, stride=stride, padding=padding, bias=bias)
        groups.append([conv, norm_layer(norm, out), nn.LeakyReLU(SLOPE)])
        channels = out
    return [*groups, [nn.Conv2d(channels, 1, 4, padding=padding)]]


def _pixel_layers(config: PatchConfig, *, bias: bool) -> list[nn.Module]:
    width = config.width
    return [
        nn.Conv2d(config.in_channels, width, 1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, 2 * width, 1, bias=bias),
        norm_layer(config.norm, 2 * width),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(2 * width, 1, 1, bias=bias),
    ]


class PatchDiscriminator(nn.Module):
    """One score a patch; patches of one pixel are judged by their colour alone."""

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        self.config = config
        halvings, bias = HALVINGS[config.patch], config.norm == "instance"
        if halvings == 0:
            self.net = nn.Sequential(*_pixel_layers(config, bias=bias))
            return
        groups = patch_groups(
            config.in_channels,
            config.width,
            halvings,
            widest=8 * config.width,
            padding=1,
            norm=config.norm,
            bias=bias,
        )
        self.model = nn.Sequential(*(layer for group in groups for layer in group))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores [N,1,h,w] of the patches of `x` [N,C,H,W], the condition first.

        Raises:
            ShapeError: `x` has other channels, or is too small for patches of this size.
        """
        halvings = HALVINGS[self.config.patch]
        least = 3 << halvings if halvings else 1  # the last two layers take a pixel each
        check_planes(x, self.config.in_channels, 1, least, f"PatchGAN of {self.config.patch} px")
        return self.model(x) if halvings else self.net(x)
