"""A discriminator step (logits of 4 pictures, gradients of all weights) against the public way.

python -m benchmarks.discriminator [--device cuda]
"""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import (
    Figure,
    Settings,
    at_peak,
    count_operations,
    interleaved,
    main,
    matrix_peak,
    ratio,
)
from benchmarks.yardstick import PlainDiscriminator
from stylegan import Discriminator, DiscriminatorConfig
from stylegan.layers import resolutions
from stylegan.precision import autocast, resolve_precision


def step(network: nn.Module, pictures: Tensor, dtype: torch.dtype) -> Callable[[], object]:
    """Return the work of one step: loss and gradients of all weights."""
    weights = list(network.parameters())

    def work() -> object:
        with autocast(pictures.device, dtype):
            loss = F.softplus(network(pictures)).float().mean()
        return torch.autograd.grad(loss, weights)

    return work


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the ratio at 256 px with widths up to 512."""
    size, num = (16, 4) if settings.quick else (256, 4)
    device = settings.device
    channels = dict.fromkeys(resolutions(size), 16) if settings.quick else {}
    config = DiscriminatorConfig(img_resolution=size, channels=channels)
    network = Discriminator(config).to(device)
    slow = PlainDiscriminator(copy.deepcopy(network))
    for weight in slow.parameters():
        weight.data = weight.data.contiguous()
    pictures = torch.rand(num, 3, size, size, device=device) * 2 - 1
    dtype = resolve_precision("auto", device)
    works = {
        "ours": step(network, pictures, dtype),
        "yardstick": step(slow, pictures, torch.float32),
    }
    name = str(dtype).removeprefix("torch.")
    times = interleaved(works, settings, rounds=min(settings.rounds, 3))
    limit = at_peak(count_operations(works["ours"]), times, matrix_peak(dtype, settings))
    yield ratio(f"discriminator step {size} px, batch {num}, {name}", times, note=limit)


if __name__ == "__main__":
    main("discriminator", measure, __doc__)
