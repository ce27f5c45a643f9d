"""What every StyleGAN generator is to the rest of the method: a mapping and a synthesis network.

`StyleGAN1`, `Generator` (StyleGAN2) and `StyleGAN3` are `Prior`s; labelers, inversion, encoder
training and synthesis take any of them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from stylegan.config import Config
from stylegan.errors import ConfigError, ShapeError
from stylegan.layers import MappingNetwork
from stylegan.seeding import Source

NOISE_MODES = ("const", "none", "random")


class Rendering(NamedTuple):
    """What synthesis gives: pictures, and the features asked for."""

    img: Tensor  # [N, img_channels, H, W], about [-1, 1]
    feats: dict[int, Tensor]  # resolution -> [N, C, h, w], what labelers read


@dataclass(frozen=True, kw_only=True)
class PriorConfig(Config, ABC):
    """The sizes all generators have."""

    what: ClassVar[str] = "generator"
    family: ClassVar[str]  # "stylegan1", "stylegan2" or "stylegan3"

    img_resolution: int
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # width of the condition; 0 for an unconditional network
    img_channels: int = 3

    @property
    @abstractmethod
    def num_ws(self) -> int:
        """Number of styles that synthesis takes."""


class Synthesis(nn.Module, ABC):
    """ws [N, num_ws, w_dim] -> Rendering.

    `block_resolutions` are the sizes whose features can be asked for, and `layer_resolutions` the
    size that each of the `num_ws` styles drives. Where no picture is wanted, `features` draws no
    further than the largest size asked for.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.num_ws, self.w_dim = config.num_ws, config.w_dim
        self.block_resolutions: list[int] = []
        self.layer_resolutions: tuple[int, ...] = ()

    def features(
        self,
        ws: Tensor,
        resolutions: Iterable[int],
        noise_mode: str = "const",
        generator: Source | None = None,
    ) -> dict[int, Tensor]:
        """Return {resolution: features [N, C, h, w]} without drawing the picture.

        Arguments, values and errors are those of a call with these `feature_resolutions`, but no
        random noise is drawn for layers beyond the largest size.
        """
        wanted = set(resolutions)
        self.check(ws, noise_mode, wanted)
        sizes = self._sizes(ws, noise_mode, generator, max(wanted, default=0))
        return {res: x for res, x in sizes if res in wanted}

    @abstractmethod
    def _sizes(
        self, ws: Tensor, noise_mode: str, gen: Source | None, largest: float = math.inf
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield each size up to `largest` px and its features, the last ones it has."""

    def check(self, ws: Tensor, noise_mode: str, wanted: set[int]) -> None:
        """Refuse codes of another network, unknown noise modes and sizes it does not have.

        Raises:
            ShapeError: `ws` is of another layer count or width, or a wanted resolution is outside
                the network.
            ConfigError: `noise_mode` is unknown.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ShapeError(
                f"codes are {list(ws.shape)}, but this network takes "
                f"[N, {self.num_ws}, {self.w_dim}]; were they made with another generator?"
            )
        if noise_mode not in NOISE_MODES:
            raise ConfigError(
                f"unknown noise mode '{noise_mode}'; choose from {', '.join(NOISE_MODES)}"
            )
        if not wanted <= set(self.block_resolutions):
            missing = sorted(wanted - set(self.block_resolutions))
            raise ShapeError(
                f"no features of {missing} px in a network with blocks {self.block_resolutions}"
            )


class Prior(nn.Module):
    """A generator: `mapping` (z -> ws) and `synthesis` (ws -> picture and features)."""

    def __init__(
        self, config: PriorConfig, *, synthesis: Synthesis, mapping: MappingNetwork
    ) -> None:
        super().__init__()
        self.config = config
        self.z_dim, self.w_dim, self.c_dim = config.z_dim, config.w_dim, config.c_dim
        self.num_ws = config.num_ws
        self.img_resolution, self.img_channels = config.img_resolution, config.img_channels
        self.synthesis = synthesis
        self.mapping = mapping

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> Tensor:
        """Draw pictures [N, img_channels, H, W] from latents `z` [N, z_dim]."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff)
        return self.synthesis(ws, noise_mode=noise_mode).img


def nearest(resolutions: Sequence[int], wanted: int) -> int:
    """Return the resolution nearest to `wanted`, the smaller of two as near.

    >>> nearest([4, 8, 16], 9), nearest([16, 32], 8)
    (8, 16)
    """
    return min(resolutions, key=lambda size: (abs(size - wanted), size))
