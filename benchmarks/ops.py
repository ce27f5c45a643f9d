"""The operators against the public way, and against the machine's copy bandwidth.

    python -m benchmarks.ops [--device cuda]

The bytes of a pass are those it has to read and write once; the share of copy bandwidth is their
rate over that of copying a large tensor to where another one was. An operator's result is new
memory, which a CPU's system hands over page by page where it is large: what `clone` reaches on a
tensor of the result's size is told beside, as the floor.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import (
    Figure,
    Settings,
    copy_bandwidth,
    interleaved,
    main,
    matrix_peak,
    rate,
    ratio,
)
from benchmarks.yardstick import SQRT2, upfirdn
from stylegan.ops import bias_act, design_lowpass, filtered_lrelu, setup_filter, upfirdn2d

SHAPES = {"cpu": [(4, 128, 128), (1, 64, 512)], "cuda": [(8, 128, 256), (8, 32, 1024)]}


class Op(NamedTuple):
    """One operator: our way and the public way, and how many tensors of its input it moves."""

    name: str
    ours: Callable[[Tensor], Tensor]
    plain: Callable[[Tensor], Tensor]
    moved: float  # values read and written, per value of the input
    bound: bool = True  # by the bandwidth of the memory, rather than by sums


def operators(channels: int, size: int, device: torch.device) -> list[Op]:
    """Return the operators of a generator at [C, size, size]."""
    taps = setup_filter((1, 3, 3, 1)).to(device)
    bias = torch.linspace(-1, 1, channels, device=device)
    noise = torch.linspace(-1, 1, size * size, device=device).view(size, size)

    def plain_act(x: Tensor) -> Tensor:
        x = x + noise.to(x.dtype)
        return F.leaky_relu(x + bias.to(x.dtype)[:, None, None], 0.2) * SQRT2

    def plain_filter(up: int, down: int, pad: tuple[int, int]) -> Callable[[Tensor], Tensor]:
        return lambda x: upfirdn(x, taps.to(x.dtype), up=up, down=down, pad=pad, gain=up**2)

    def our_filter(up: int, down: int, pad: tuple[int, int]) -> Callable[[Tensor], Tensor]:
        around = (*pad, *pad)
        return lambda x: upfirdn2d(x, taps, up=up, down=down, padding=around, gain=up**2)

    sizes = {
        "up 2": (2, 1, (2, 1), 5.0),
        "down 2": (1, 2, (1, 1), 1.25),
        "filter": (1, 1, (2, 1), 2.0),
    }
    found = [
        Op(f"upfirdn2d, {name}", our_filter(*a), plain_filter(*a), moved)
        for name, (*a, moved) in sizes.items()
    ]
    ours = lambda x: bias_act(x, bias, act="lrelu", noise=noise)  # noqa: E731
    found.append(Op("bias_act with noise", ours, plain_act, 2.0))
    if device.type == "cuda" and size <= 256:  # larger, the yardstick fills a card
        found.append(of_stylegan3(bias))
    return found


def of_stylegan3(bias: Tensor) -> Op:
    """Return the nonlinearity of StyleGAN3, which keeps the size."""
    lowpass = design_lowpass(12, cutoff=0.4, width=0.2, rate=2.0)
    taps = torch.ones(1) if lowpass is None else lowpass.to(bias.device)

    def ours(x: Tensor) -> Tensor:
        around = (11, 10, 11, 10)
        return filtered_lrelu(
            x, b=bias, up_filter=taps, down_filter=taps, up=2, down=2, padding=around, clamp=256
        )

    def plain(x: Tensor) -> Tensor:
        f = taps.to(x.dtype)
        x = upfirdn(x + bias.to(x.dtype)[:, None, None], f, up=2, pad=(11, 10), gain=4)
        x = (F.leaky_relu(x, 0.2) * SQRT2).clamp(-256, 256)
        return upfirdn(x, f, down=2, pad=(0, 0))

    return Op("filtered_lrelu, up 2, down 2", ours, plain, 2.0, bound=False)


def forward_and_backward(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    """Return the work of a value and its gradient."""
    x = x.detach().requires_grad_()
    with torch.no_grad():
        dy = torch.ones_like(function(x))
    return lambda: torch.autograd.grad(function(x), x, dy)


@torch.no_grad()
def _agree(op: Op, x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(op.ours(x).float(), op.plain(y).float(), rtol=2e-2, atol=2e-2)


@torch.no_grad()
def passes(
    op: Op, x: Tensor, plain: Tensor, name: str, bandwidth: float, settings: Settings
) -> Iterator[Figure]:
    """Yield the forward pass of both layouts as shares of the copy bandwidth, in bytes a second."""
    result = op.ours(x)
    times = interleaved(
        {
            "forward": lambda: op.ours(x),
            "forward, contiguous": lambda: op.ours(plain),
            "clone": lambda: result.clone(),
        },
        settings,
    )
    copied = 2 * result.numel() * result.element_size()
    fresh = rate(name, times.pop("clone"), 100 * copied / bandwidth, "%").value
    aim = (80.0 if x.device.type == "cuda" else 70.0) if op.bound else None
    moved = x.numel() * x.element_size() * op.moved
    for way, seconds in times.items():
        share = rate(f"{name}, {way}", seconds, 100 * moved / bandwidth, "%", aim=aim)
        yield replace(share, note=f"of copy bandwidth; clone reaches {fresh:.0f} %")


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the machine's limits, and each operator beside them."""
    device = settings.device
    floor = copy_bandwidth(settings)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    yield Figure("copy bandwidth", floor / 1e9, "GB/s")
    for dtype in (torch.float32, torch.bfloat16):
        peak = matrix_peak(dtype, settings) / 1e9
        yield Figure(f"matrix peak, {_name(dtype)}", peak, "GFLOP/s")
    shapes = [(2, 16, 32)] if settings.quick else SHAPES[device.type]
    for (n, c, size), dtype in ((s, d) for s in shapes for d in (torch.float32, half)):
        plain = torch.randn(n, c, size, size, device=device).to(dtype)
        x = plain.contiguous(memory_format=torch.channels_last)
        for op in operators(c, size, device):
            _agree(op, x, plain)
            name = f"{op.name}, {n}x{c}x{size}x{size} {_name(dtype)}"
            yield from passes(op, x, plain, name, floor, settings)
            works = {
                "ours": forward_and_backward(op.ours, x),
                "yardstick": forward_and_backward(op.plain, plain),
            }
            aim = 5.0 if dtype == torch.float32 else None
            yield ratio(f"{name}, forward and backward", interleaved(works, settings), aim=aim)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main("ops", measure, __doc__)
