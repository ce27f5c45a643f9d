"""Convolutions of bounded slope, and how networks made of them begin."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan.ops import conv3x3


class SpectralConv2d(nn.Module):
    """Convolution whose kernel is divided by its largest singular value (Miyato et al. 2018).

    `weight_u` and `weight_v` estimate its singular vectors, by one step of power iteration each
    time the layer is used in training. The names are those of public checkpoints.
    """

    weight_u: Tensor  # [O]
    weight_v: Tensor  # [I k k]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight_orig = nn.Parameter(torch.zeros(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("weight_u", torch.zeros(out_channels))
        self.register_buffer("weight_v", torch.zeros(in_channels * kernel * kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` [N,I,H,W]."""
        if self.training:
            self.iterate()
        # the vectors change at the next use, when this one may still wait for its gradient
        u, v = self.weight_u.clone(), self.weight_v.clone()
        sigma = u @ self.weight_orig.flatten(1) @ v
        weight = self.weight_orig / sigma
        if weight.shape[2:] == (3, 3) and self.stride == self.padding == 1:
            return conv3x3(x, weight, self.bias)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    @torch.no_grad()
    def iterate(self) -> None:
        """Bring the singular vectors one step closer."""
        matrix = self.weight_orig.flatten(1)
        self.weight_v.copy_(F.normalize(self.weight_u @ matrix, dim=0, eps=1e-12))
        self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0, eps=1e-12))


@torch.no_grad()
def initialise(
    net: nn.Module, gen: torch.Generator, *, gain: float = 0.02, spectral: float | None = None
) -> None:
    """Draw all weights of `net` anew from `gen`: Xavier's normal distribution, biases zero.

    `spectral` is the gain of spectral convolutions, by default that of the others. It changes
    nothing but how far a step turns their kernels: small ones may turn faster than the power
    iteration follows.
    """
    for module in net.modules():
        if isinstance(module, SpectralConv2d):
            first = gain if spectral is None else spectral
            nn.init.xavier_normal_(module.weight_orig, first, generator=gen)
            module.weight_u.normal_(generator=gen)
            for _ in range(15):
                module.iterate()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, gain, generator=gen)
        if isinstance(module, SpectralConv2d | nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
