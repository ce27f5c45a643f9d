"""What the networks of pix2pix and pix2pixHD have in common: norms, noise, first weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewshot_smis.baselines.config import check_choice
from stylegan.errors import ShapeError
from stylegan.seeding import rand

NORMS = ("batch", "instance", "none")


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Return the layer called `norm`; only that of "batch" has weights and running statistics."""
    check_choice("norm", norm, NORMS)
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


def dropout(x: Tensor, gen: torch.Generator | None, *, rate: float = 0.5) -> Tensor:
    """Return `x` with a share `rate` of its values, drawn from `gen`, at 0; as it is for None.

    This is the only noise of pix2pix, at test time as well.
    """
    if gen is None:
        return x
    keep = rand(x.shape, gen).to(x.device) >= rate
    return x * keep / (1 - rate)


@contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """Let the batch norms of `net` use the statistics of what they are given, and keep none."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(module.training, module.track_running_stats) for module in norms]
    for module in norms:
        module.training, module.track_running_stats = True, False
    try:
        yield
    finally:
        for module, (training, track) in zip(norms, before, strict=True):
            module.training, module.track_running_stats = training, track


@torch.no_grad()
def initialise(net: nn.Module, gen: torch.Generator) -> None:
    """Draw all weights of `net` anew: N(0, 0.02), for norms N(1, 0.02); biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=gen)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.normal_(module.weight, 1.0, 0.02, generator=gen)
            nn.init.zeros_(module.bias)


def check_planes(x: Tensor, channels: int, stride: int, least: int, name: str) -> None:
    """Refuse input that a network cannot halve.

    Args:
        x: What was given, [N, `channels`, H, W].
        channels: How many the network reads.
        stride: What both sides must be multiples of.
        least: The smallest side that leaves enough pixels for every layer.
        name: The network, for the message.

    Raises:
        ShapeError: Another number of axes or channels, or sides that do not fit.
    """
    if x.ndim != 4 or x.shape[1] != channels:
        raise ShapeError(
            f"{name}: expected [N,{channels},H,W], got {list(x.shape)}; "
            f"is the map of other classes than the {channels} channels it was built for?"
        )
    height, width = x.shape[2:]
    if height % stride or width % stride or min(height, width) < least:
        raise ShapeError(
            f"{name}: pictures of {height} x {width} do not fit; resize to multiples of {stride}, "
            f"{least} pixels at least, or build it with fewer halvings"
        )
