"""The generators of pix2pix: a U-Net, and the encoder-decoder it is compared with.

Both halve the picture until few pixels are left and double it again. The U-Net hands each layer's
features across to the layer that mirrors it, so that detail need not pass through the bottleneck.

Names inside the network are those of the public checkpoints, nested from the outermost level:
`model.model.1.model.3.model.1.weight` is the convolution of the third level.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_smis.baselines.config import check_at_least, check_choice
from fewshot_smis.baselines.layers import NORMS, check_planes, dropout, norm_layer
from fewshot_smis.baselines.patchgan import SLOPE
from stylegan.config import Config


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """The sizes of a generator of pix2pix."""

    in_channels: int
    out_channels: int = 3
    levels: int = 8  # halvings; 8, 7 and 6 bring pictures of 256, 128 and 64 px to one pixel
    width: int = 64  # channels of the outermost level; they double up to eight times this
    skips: bool = True  # False: the encoder-decoder
    norm: str = "batch"  # "batch", "instance" or "none"
    tanh: bool = True  # bounds the output to [-1,1]; False gives logits

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("norm", self.norm, NORMS)
        check_at_least(1, in_channels=self.in_channels, out_channels=self.out_channels)
        check_at_least(1, width=self.width)
        check_at_least(2, levels=self.levels)

    @property
    def stride(self) -> int:
        """What the sides of the pictures must be multiples of."""
        return 2**self.levels

    def channels(self, level: int) -> int:
        """Return the width of a level, 0 the outermost."""
        return self.width * min(2**level, 8)


class UNetLevel(nn.Module):
    """Halve, do all that is further in, double; the input joins the result where there are skips.

    The numbers of the layers are their places in the public networks, where activations count.
    """

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        outside, inside = config.channels(level - 1), config.channels(level)
        innermost = level == config.levels - 1
        bias = config.norm == "instance"
        down = nn.Conv2d(outside, inside, 4, stride=2, padding=1, bias=bias)
        joined = inside if innermost or not config.skips else 2 * inside
        up = nn.ConvTranspose2d(joined, outside, 4, stride=2, padding=1, bias=bias)
        layers: dict[str, nn.Module] = {"1": down}
        if innermost:
            layers |= {"3": up, "4": norm_layer(config.norm, outside)}
        else:
            layers |= {"2": norm_layer(config.norm, inside), "3": UNetLevel(config, level + 1)}
            layers |= {"5": up, "6": norm_layer(config.norm, outside)}
        self.model = nn.ModuleDict(layers)
        self.innermost, self.skips = innermost, config.skips
        self.noisy = level >= 4 and not innermost  # levels of constant width

    def forward(self, x: Tensor, gen: torch.Generator | None) -> Tensor:
        """Turn `x` [N,C,H,W] into [N,2C,H,W], itself first, or without skips [N,C,H,W]."""
        y = self.model["1"](F.leaky_relu(x, SLOPE))
        if self.innermost:
            y = self.model["4"](self.model["3"](F.relu(y)))
        else:
            y = self.model["3"](self.model["2"](y), gen)
            y = self.model["6"](self.model["5"](F.relu(y)))
        if self.noisy:
            y = dropout(y, gen)
        # both activations that follow leave a leaky ReLU of x as they leave x
        return torch.cat([x, y], dim=1) if self.skips else y


class Outermost(nn.Module):
    """The level that reads the input and writes the output."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.channels(0)
        joined = 2 * width if config.skips else width
        bias = config.norm == "instance"
        self.model = nn.ModuleDict(
            {
                "0": nn.Conv2d(config.in_channels, width, 4, stride=2, padding=1, bias=bias),
                "1": UNetLevel(config, 1),
                "3": nn.ConvTranspose2d(joined, config.out_channels, 4, stride=2, padding=1),
            }
        )

    def forward(self, x: Tensor, gen: torch.Generator | None) -> Tensor:
        """Turn `x` [N,I,H,W] into [N,O,H,W]."""
        y = self.model["1"](self.model["0"](x), gen)
        return self.model["3"](F.relu(y))


class UNet(nn.Module):
    """From planes to planes of the same size; `UNetConfig` says which generator it is."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Outermost(config)

    def forward(self, x: Tensor, gen: torch.Generator | None = None) -> Tensor:
        """Return [N,O,H,W], in [-1,1] if the network ends in tanh, for `x` [N,I,H,W].

        Args:
            x: One-hot label maps or pictures; sides are multiples of `config.stride`.
            gen: Source of the noise, dropout in all but the four outer levels and the
                innermost; None leaves it out.

        Raises:
            ShapeError: `x` has other channels or sides.
        """
        stride = self.config.stride
        check_planes(x, self.config.in_channels, stride, stride, f"U-Net of {stride} px")
        y = self.model(x, gen)
        return y.tanh() if self.config.tanh else y
