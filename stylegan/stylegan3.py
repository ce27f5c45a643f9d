"""The StyleGAN3 generator (Karras et al. 2021), translation (T) and rotation (R) equivariant.

Every layer draws on a grid that is a band-limited signal: `Grid` says how many samples a picture
has, which frequencies they hold, and how far they go beyond the picture. Parameter names are those
of NVIDIA's PyTorch code, so that its state dicts load as they are.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stylegan.errors import ConfigError, ShapeError
from stylegan.layers import FullyConnectedLayer, MappingNetwork, resolutions
from stylegan.ops import design_lowpass, filtered_lrelu, modulated_conv2d
from stylegan.prior import Prior, PriorConfig, Rendering, Synthesis
from stylegan.seeding import Source

_NUM_LAYERS = 14
_FIRST_CUTOFF = 2.0


@dataclass(frozen=True, kw_only=True)
class StyleGAN3Config(PriorConfig):
    """The sizes a StyleGAN3 generator is built from; the defaults are those of config T."""

    family: ClassVar[str] = "stylegan3"

    mapping_layers: int = 2
    channels: tuple[int, ...] = ()  # width of each layer but the last; () is the paper's 14 layers
    conv_kernel: int = 3  # 1 in config R
    radial_filters: bool = False  # True in config R
    num_critical: int = 2  # layers at the end whose band reaches half the sampling rate
    first_cutoff: float = _FIRST_CUTOFF  # f_c,0: cycles per picture
    first_stopband: float = 2**2.1  # f_t,0
    last_stopband_rel: float = 2**0.3  # f_t,N over f_c,N
    margin: int = 10  # samples beyond each border of the picture
    filter_size: int = 6  # taps for a factor of one
    lrelu_upsampling: int = 2
    output_scale: float = 0.25
    conv_clamp: float | None = 256.0

    def __post_init__(self) -> None:
        """Fill in the default widths and check the sizes."""
        resolutions(self.img_resolution)
        given = self.channels or _default_channels(self)
        object.__setattr__(self, "channels", tuple(int(n) for n in given))
        if not 0 < self.num_critical < len(self.channels):
            raise ConfigError(
                f"{self.num_critical} critically sampled layers of {len(self.channels)}; "
                "there must be fewer of them than layers, and at least one"
            )

    @property
    def num_ws(self) -> int:
        """Number of styles: one for the Fourier features, one a layer, one for the to-RGB."""
        return len(self.channels) + 2


class Grid(NamedTuple):
    """The samples a layer writes."""

    cutoff: float  # cycles per picture that pass
    half_width: float  # of the transition band above the cutoff
    rate: int  # samples per picture side
    size: int  # samples per side of the canvas, margins included


def layer_grids(config: StyleGAN3Config) -> list[Grid]:
    """Return the grids of all layers, the to-RGB last (StyleGAN3, section 3.2 and appendix C).

    Cutoff and stopband frequency grow geometrically from layer to layer until the last
    `num_critical` ones, and the sampling rate is the power of two that holds the stopband.
    """
    num = len(config.channels)
    last_cutoff = config.img_resolution / 2
    last_stopband = last_cutoff * config.last_stopband_rel
    progress = np.minimum(np.arange(num + 1) / (num - config.num_critical), 1)
    cutoffs = config.first_cutoff * (last_cutoff / config.first_cutoff) ** progress
    stopbands = config.first_stopband * (last_stopband / config.first_stopband) ** progress
    rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, config.img_resolution))))
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    sizes = rates + 2 * config.margin
    sizes[-2:] = config.img_resolution
    return [
        Grid(float(f), float(half), int(rate), int(size))
        for f, half, rate, size in zip(cutoffs, half_widths, rates, sizes, strict=True)
    ]


class Resampling(NamedTuple):
    """How a layer goes from one grid to the next."""

    up: int
    down: int
    up_filter: Tensor | None
    down_filter: Tensor | None


def layer_resampling(config: StyleGAN3Config) -> list[Resampling]:
    """Return the factors and filters of all layers, the to-RGB last, which has no filters.

    The nonlinearity runs at `lrelu_upsampling` times the finer of the two rates.
    """
    grids = layer_grids(config)
    last = len(grids) - 1
    plan = []
    for i, (source, target) in enumerate(zip([grids[0], *grids], grids, strict=False)):
        finer = 1 if i == last else config.lrelu_upsampling
        rate = max(source.rate, target.rate) * finer
        up, down = rate // source.rate, rate // target.rate
        taps = [1 if factor == 1 else config.filter_size * factor for factor in (up, down)]
        radial = config.radial_filters and i < last - config.num_critical
        up_filter = design_lowpass(taps[0], source.cutoff, source.half_width * 2, rate)
        down_filter = design_lowpass(
            taps[1], target.cutoff, target.half_width * 2, rate, radial=radial
        )
        plan.append(Resampling(up, down, up_filter, down_filter))
    return plan


def user_transform(degrees: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Return the matrix [3,3] with which `synthesis` turns and moves its picture.

    Args:
        degrees: Clockwise turn about the centre of the picture.
        shift: Move to the right and down, in picture sides, after the turn.

    Returns:
        The inverse motion, which maps a place in the picture to its origin.
    """
    turn = math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    motion = torch.tensor([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0.0, 0.0, 1.0]])
    return torch.linalg.inv(motion)


class FourierInput(nn.Module):
    """The input signal: sines of fixed frequencies, turned and moved by the first style."""

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, channels: int, w_dim: int, grid: Grid) -> None:
        super().__init__()
        self.channels, self.grid = channels, grid
        freqs = torch.randn(channels, 2)
        radius = freqs.norm(dim=1, keepdim=True)
        spread = radius * radius.square().exp().pow(0.25)  # brings them into the unit disc
        self.register_buffer("freqs", freqs / spread * grid.cutoff)
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = FullyConnectedLayer(w_dim, 4)
        with torch.no_grad():  # no turn and no shift at first
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """Return features [N, C, size, size] from the first style `w` [N, w_dim].

        `transform` [3,3] or [N,3,3] takes the place of the network's own.
        """
        given = self.transform if transform is None else transform.to(w)
        place = self._learned(w) @ given  # [N,3,3]
        turn, shift = place[:, :2, :2], place[:, :2, 2:]
        freqs = self.freqs @ turn  # [N,C,2]
        phases = self.phases + (self.freqs @ shift).squeeze(2)  # [N,C]
        x = (self._positions() @ freqs.mT) + phases[:, None]  # [N,P,C]
        x = torch.sin(2 * math.pi * x) * self._amplitudes(freqs)[:, None]
        x = x @ (self.weight / math.sqrt(self.channels)).t()
        return x.mT.reshape(len(w), self.channels, self.grid.size, self.grid.size)

    def _learned(self, w: Tensor) -> Tensor:
        """Return turn after shift [N,3,3], as the affine layer reads them from the style."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cos, sin, x, y = t.unbind(dim=1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1)
        shift = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], dim=1)
        return turn.view(-1, 3, 3) @ shift.view(-1, 3, 3)

    def _amplitudes(self, freqs: Tensor) -> Tensor:
        """Fade out frequencies [N,C] that a transform has brought near half the rate."""
        beyond = freqs.norm(dim=2) - self.grid.cutoff
        return (1 - beyond / (self.grid.rate / 2 - self.grid.cutoff)).clamp(0, 1)

    def _positions(self) -> Tensor:
        """Return the places (x, y) of all samples [P,2], in picture sides from the centre."""
        size = self.grid.size
        steps = torch.arange(size, device=self.freqs.device, dtype=self.freqs.dtype)
        line = (steps + 0.5 - size / 2) / self.grid.rate
        y, x = torch.meshgrid(line, line, indexing="ij")
        return torch.stack([x, y], dim=2).view(-1, 2)


class SynthesisLayer(nn.Module):
    """Modulated convolution, then leaky ReLU between two filters, from one grid to the next."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(
        self,
        channels: tuple[int, int],
        config: StyleGAN3Config,
        source: Grid,
        target: Grid,
        resampling: Resampling,
        *,
        is_torgb: bool,
    ) -> None:
        super().__init__()
        c_in, c_out = channels
        self.is_torgb = is_torgb
        self.kernel = 1 if is_torgb else config.conv_kernel
        self.conv_clamp = config.conv_clamp
        self.affine = FullyConnectedLayer(config.w_dim, c_in, bias_init=1)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, self.kernel, self.kernel))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("magnitude_ema", torch.ones([]))
        self.up, self.down, up_filter, down_filter = resampling
        self.register_buffer("up_filter", up_filter)
        self.register_buffer("down_filter", down_filter)
        enlarged = (source.size + self.kernel - 1) * self.up
        lost = sum(len(f) - 1 for f in (up_filter, down_filter) if f is not None)
        padding = (target.size - 1) * self.down + 1 - enlarged + lost
        before = (padding + self.up) // 2
        self.padding = (before, padding - before, before, padding - before)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map `x` [N, C_in, H, W] under styles `w` [N, w_dim] to the layer's own grid."""
        styles = self.affine(w)
        if self.is_torgb:
            styles = styles / math.sqrt(self.weight[0].numel())
        x = modulated_conv2d(
            x * self.magnitude_ema.rsqrt().to(x.dtype),
            self.weight,
            styles,
            padding=self.kernel - 1,
            demodulate=not self.is_torgb,
        )
        return filtered_lrelu(
            x,
            up_filter=self.up_filter,
            down_filter=self.down_filter,
            b=self.bias,
            up=self.up,
            down=self.down,
            padding=self.padding,
            gain=1.0 if self.is_torgb else math.sqrt(2),
            slope=1.0 if self.is_torgb else 0.2,
            clamp=self.conv_clamp,
        )


def without_margin(x: Tensor, grid: Grid) -> Tensor:
    """Cut the samples of `x` [N,C,size,size] that lie in the picture, [N,C,rate,rate]."""
    edge = (grid.size - grid.rate) // 2
    return x[:, :, edge : edge + grid.rate, edge : edge + grid.rate]


class SynthesisNetwork(Synthesis):
    """ws [N, num_ws, w_dim] -> Rendering."""

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__(config)
        self.output_scale = config.output_scale
        self.grids = layer_grids(config)
        self.layer_resolutions = tuple(g.rate for g in (self.grids[0], *self.grids))
        self.block_resolutions = sorted(set(self.layer_resolutions))
        widths = [*config.channels, config.img_channels]
        self.input = FourierInput(widths[0], config.w_dim, self.grids[0])
        self.layer_names = []
        for i, (grid, resampling) in enumerate(
            zip(self.grids, layer_resampling(config), strict=True)
        ):
            before = max(i - 1, 0)
            layer = SynthesisLayer(
                (widths[before], widths[i]),
                config,
                self.grids[before],
                grid,
                resampling,
                is_torgb=i == len(config.channels),
            )
            self.layer_names.append(f"L{i}_{grid.size}_{widths[i]}")
            self.add_module(self.layer_names[-1], layer)

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "const",
        feature_resolutions: Iterable[int] = (),
        generator: Source | None = None,
        transform: Tensor | None = None,
    ) -> Rendering:
        """Draw pictures from styles.

        Args:
            ws: [N, num_ws, w_dim].
            noise_mode: As in the other generators; this one takes no noise.
            feature_resolutions: Sampling rates whose features are kept: the output of the last
                layer of that rate before to-RGB, without its margin, so that the features
                [N, C, rate, rate] cover the picture.
            generator: Unused, as there is no noise.
            transform: [3,3] or [N,3,3] from `user_transform`: turns and moves the picture.

        Returns:
            The pictures [N, img_channels, H, W] and {rate: features}.

        Raises:
            ShapeError: `ws` is of another layer count or width, a feature resolution is outside
                the network, or `transform` is of another shape.
            ConfigError: `noise_mode` is unknown.
        """
        wanted = set(feature_resolutions)
        self.check(ws, noise_mode, wanted)
        if transform is not None and transform.shape not in ((3, 3), (len(ws), 3, 3)):
            raise ShapeError(
                f"the transform is {list(transform.shape)}; expected [3, 3] or [{len(ws)}, 3, 3]"
            )
        feats = {}
        for layer, grid, x in self._layers(ws, transform):
            if grid.rate in wanted and not layer.is_torgb:
                feats[grid.rate] = without_margin(x, grid)
        return Rendering(x.float() * self.output_scale, feats)

    def _sizes(
        self, ws: Tensor, noise_mode: str, gen: Source | None, largest: float = math.inf
    ) -> Iterator[tuple[int, Tensor]]:
        for layer, grid, x in self._layers(ws, None, largest):
            if not layer.is_torgb:
                yield grid.rate, without_margin(x, grid)

    def _layers(
        self, ws: Tensor, transform: Tensor | None, largest: float = math.inf
    ) -> Iterator[tuple[SynthesisLayer, Grid, Tensor]]:
        """Yield each layer whose rate is at most `largest`, its grid and its output."""
        first, *styles = ws.unbind(dim=1)
        x = self.input(first, transform)
        for name, grid, w in zip(self.layer_names, self.grids, styles, strict=True):
            if grid.rate > largest:
                return
            layer: SynthesisLayer = getattr(self, name)
            x = layer(x, w)
            yield layer, grid, x


class StyleGAN3(Prior):
    """StyleGAN3: `mapping` (z -> ws) and `synthesis` (ws -> picture and features)."""

    config: StyleGAN3Config

    def __init__(self, config: StyleGAN3Config) -> None:
        synthesis = SynthesisNetwork(config)
        mapping = MappingNetwork(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            config.num_ws,
            num_layers=config.mapping_layers,
        )
        super().__init__(config, synthesis=synthesis, mapping=mapping)


def _default_channels(config: StyleGAN3Config, base: int = 32768, top: int = 512) -> list[int]:
    """Return the paper's widths: inverse to the cutoff frequency, up to 512."""
    steps = np.minimum(np.arange(_NUM_LAYERS) / (_NUM_LAYERS - config.num_critical), 1)
    ratio = config.img_resolution / 2 / config.first_cutoff
    cutoffs = config.first_cutoff * ratio**steps
    return [int(n) for n in np.rint(np.minimum(base / 2 / cutoffs, top))]
