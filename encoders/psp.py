"""Encoders of pSp: from a label map, or an image, to the codes of a StyleGAN in W+ or W.

The networks give offsets; MaskEncoder adds the latent average. See "Encoding in Style"
(Richardson et al. 2021) for the feature pyramid and the map2style heads.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.backbone import TRUNKS, build_trunk, pyramid
from stylegan.config import Config
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import stream

COARSE, MIDDLE = 3, 7  # w 0-2 read the coarse map, 3-6 the middle one, the rest the fine one
KINDS = ("gradual", "backbone_w", "backbone_wplus")
STYLE_WIDTHS = {"ir_se50": 8, "light": 2}  # times the trunk's width
FIRST_OFFSETS = 0.1  # spread of a fresh encoder's codes around the latent average
POOL = 7  # side of the map that backbone_wplus flattens


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """The sizes of an encoder; everything that is needed to build it again."""

    what: ClassVar[str] = "encoder"

    kind: str = "gradual"  # "gradual" | "backbone_w" | "backbone_wplus"
    trunk: str = "ir_se50"  # "ir_se50" | "light"
    in_channels: int  # classes of a one-hot label map, or 3
    num_ws: int
    w_dim: int = 512
    input_size: int = 256  # side of the square input, in pixels
    width: int = 64  # channels of the trunk's stem
    style_width: int = 0  # channels of the pyramid and of the heads; 0: follows from width
    mark_grid: int = 0  # sparse maps are first brought to a grid of this side; 0: dense maps
    mark_radius: int = 0  # pixels by which the marks of sparse maps are then widened

    def __post_init__(self) -> None:
        """Check the values and fill in `style_width`."""
        if self.kind not in KINDS:
            raise ConfigError(f"encoder kind {self.kind!r} is unknown; choose one of {KINDS}")
        if self.trunk not in TRUNKS:
            raise ConfigError(f"trunk {self.trunk!r} is unknown; choose one of {tuple(TRUNKS)}")
        for name in ("in_channels", "num_ws", "w_dim", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder {name} is {getattr(self, name)}; it must be positive")
        if self.input_size < 16:
            raise ConfigError(
                f"encoder input_size is {self.input_size}; the smallest that fits is 16 pixels"
            )
        for name in ("style_width", "mark_grid", "mark_radius"):
            if getattr(self, name) < 0:
                raise ConfigError(f"encoder {name} is {getattr(self, name)}; give 0 or more")
        if self.style_width == 0:
            object.__setattr__(self, "style_width", self.width * STYLE_WIDTHS[self.trunk])

    @property
    def map_sizes(self) -> tuple[int, int, int]:
        """The sides of the maps c1, c2, c3: a quarter, an eighth, a sixteenth, rounded up."""
        size = self.input_size
        return -(-size // 4), -(-size // 8), -(-size // 16)


class EqualLinear(nn.Module):
    """Linear layer whose weight is stored times sqrt(in_features), as StyleGAN does."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.scale = 1 / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N,out_features] for `x` [N,in_features]."""
        return F.linear(x, self.weight * self.scale, self.bias)


class HalvingConv(nn.Conv2d):
    """3x3 convolution of stride two; of small maps, the product of patches and weights.

    On these oneDNN spends its time on the weights: it brings them into a form of its own, and their
    gradient back.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N,C,ceil(H/2),ceil(W/2)] for `x` [N,C,H,W]."""
        n, c, height, width = x.shape
        if x.device.type != "cpu" or n * height * width > c:
            return super().forward(x)
        rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        patches = rows.unfold(1, 3, 2).unfold(2, 3, 2).permute(0, 1, 2, 4, 5, 3)  # [N,h,w,3,3,C]
        weight = self.weight.permute(0, 2, 3, 1)  # as it lies in memory where channels_last
        y = F.linear(patches.flatten(3), weight.flatten(1), self.bias)
        return y.permute(0, 3, 1, 2)


class StyleHead(nn.Module):
    """map2style: halve a map of side `size` until one pixel is left, then one linear layer."""

    def __init__(self, channels: int, w_dim: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(halvings(size)):
            layers += [HalvingConv(channels), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(channels, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return one code [N,D] for the map `x` [N,C,size,size]."""
        return self.linear(self.convs(x).flatten(1))


class GradualStyleEncoder(nn.Module):
    """Feature pyramid over the trunk and one head for each w."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        trunk = build_trunk(config.trunk, config.in_channels, config.width)
        self.input_layer, self.body, self.taps = trunk.input_layer, trunk.body, trunk.taps
        channels = config.style_width
        self.styles = nn.ModuleList(
            StyleHead(channels, config.w_dim, config.map_sizes[2 - level(i)])
            for i in range(config.num_ws)
        )
        self.latlayer1 = nn.Conv2d(trunk.channels[1], channels, 1)
        self.latlayer2 = nn.Conv2d(trunk.channels[0], channels, 1)
        if trunk.channels[2] != channels:  # never in public checkpoints
            self.latlayer0 = nn.Conv2d(trunk.channels[2], channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return offsets [N,L,D] from the latent average for `x` [N,in_channels,H,W]."""
        c1, c2, c3 = pyramid(x, self.input_layer, self.body, self.taps)
        p3 = self.latlayer0(c3) if hasattr(self, "latlayer0") else c3
        p2 = upsample_add(p3, self.latlayer1(c2))
        p1 = upsample_add(p2, self.latlayer2(c1))
        maps = (p3, p2, p1)
        return torch.stack([head(maps[level(i)]) for i, head in enumerate(self.styles)], dim=1)


class BackboneEncoderIntoW(nn.Module):
    """One w for all layers, from the mean of the trunk's last map."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        trunk = build_trunk(config.trunk, config.in_channels, config.width)
        self.input_layer, self.body, self.taps = trunk.input_layer, trunk.body, trunk.taps
        self.linear = EqualLinear(trunk.channels[2], config.w_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return offsets [N,1,D] from the latent average for `x` [N,in_channels,H,W]."""
        last = pyramid(x, self.input_layer, self.body, self.taps)[-1]
        return self.linear(last.mean(dim=(2, 3))).unsqueeze(1)


class BackboneEncoderIntoWPlus(nn.Module):
    """All w from the trunk's last map, flattened at 7 x 7 pixels."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        trunk = build_trunk(config.trunk, config.in_channels, config.width)
        self.input_layer, self.body, self.taps = trunk.input_layer, trunk.body, trunk.taps
        channels = trunk.channels[2]
        side = min(POOL, config.map_sizes[2])
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.AdaptiveAvgPool2d((side, side)),
            nn.Flatten(),
            nn.Linear(channels * side**2, config.style_width),
        )
        self.linear = EqualLinear(config.style_width, config.num_ws * config.w_dim)
        self.w_dim = config.w_dim

    def forward(self, x: Tensor) -> Tensor:
        """Return offsets [N,L,D] from the latent average for `x` [N,in_channels,H,W]."""
        last = pyramid(x, self.input_layer, self.body, self.taps)[-1]
        return self.linear(self.output_layer_2(last)).unflatten(1, (-1, self.w_dim))


NETWORKS: dict[str, type[nn.Module]] = {
    "gradual": GradualStyleEncoder,
    "backbone_w": BackboneEncoderIntoW,
    "backbone_wplus": BackboneEncoderIntoWPlus,
}


class MaskEncoder(nn.Module):
    """An encoder network together with the latent average its offsets start from.

    Weights are left uninitialised: use `build_encoder` for a fresh one, `load_encoder` for a
    trained one.
    """

    latent_avg: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.net = NETWORKS[config.kind](config)
        self.register_buffer("latent_avg", torch.zeros(config.num_ws, config.w_dim))
        self.in_channels = config.in_channels
        self.num_ws = config.num_ws
        self.w_dim = config.w_dim
        self.input_size = config.input_size

    def forward(self, x: Tensor) -> Tensor:
        """Return codes ws [N,L,D] for `x` [N,in_channels,S,S], S being `input_size`.

        `x` is a one-hot label map of zeros and ones, or an image in [-1,1], as trained. The
        latent average is already added. Raises ShapeError for another size or channel count.
        """
        want = [self.in_channels, self.input_size, self.input_size]
        if x.ndim != 4 or list(x.shape[1:]) != want:
            raise ShapeError(
                f"encoder: expected [N,{','.join(map(str, want))}], got {list(x.shape)}; resize "
                f"to {self.input_size} x {self.input_size} pixels and use its "
                f"{self.in_channels} channels"
            )
        return self.latent_avg + self.net(x)


def build_encoder(config: EncoderConfig, latent_avg: Tensor, *, seed: int = 0) -> MaskEncoder:
    """Build an encoder with fresh weights drawn from `seed`, in train mode.

    `latent_avg` is the mean w of the prior, [D], [1,D] or [L,D]; ShapeError for other shapes.
    """
    with torch.device("meta"):
        encoder = MaskEncoder(config)
    encoder.to_empty(device="cpu")
    initialise(encoder.net, stream(seed, "encoder weights"))
    encoder.latent_avg.copy_(expand_latent_avg(latent_avg.detach().cpu(), config))
    return encoder


def initialise(net: nn.Module, gen: torch.Generator) -> None:
    """Draw all weights of `net` anew: small offsets, norms one, biases zero."""
    for module in net.modules():
        if isinstance(module, EqualLinear):
            nn.init.normal_(module.weight, std=FIRST_OFFSETS, generator=gen)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=gen, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.PReLU):
            nn.init.constant_(module.weight, 0.25)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            module.reset_parameters()


def expand_latent_avg(latent_avg: Tensor, config: EncoderConfig) -> Tensor:
    """Return `latent_avg`, [D], [1,D] or [L,D], as [L,D] float32; ShapeError for other shapes."""
    rows = latent_avg.float().reshape(-1, latent_avg.shape[-1]) if latent_avg.ndim else latent_avg
    if rows.ndim != 2 or rows.shape[1] != config.w_dim or len(rows) not in (1, config.num_ws):
        raise ShapeError(
            f"latent average {list(latent_avg.shape)} does not fit an encoder of "
            f"{config.num_ws} x {config.w_dim} codes; give the mean w of the same prior"
        )
    return rows.expand(config.num_ws, config.w_dim).contiguous()


def level(index: int) -> int:
    """Return the pyramid level that code `index` reads: 0 coarse, 1 middle, 2 fine."""
    return int(index >= COARSE) + int(index >= MIDDLE)


def halvings(size: int) -> int:
    """Return how many stride-2 layers bring a side of `size` pixels to one."""
    return max(size - 1, 0).bit_length()


def upsample_add(coarse: Tensor, fine: Tensor) -> Tensor:
    """Add `coarse` [N,C,h,w] to `fine` [N,C,H,W], brought to its size with corners aligned."""
    up = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True)
    return up + fine
