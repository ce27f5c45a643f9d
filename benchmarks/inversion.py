"""A step of inversion at 256 px, two pictures together, against one by one the public way.

python -m benchmarks.inversion [--device cuda]
"""

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

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
from benchmarks.networks import plainly, random_codes, random_generator
from fewshot_smis.inversion import PRESETS, inversion_steps
from fewshot_smis.perceptual import load_perceptual
from stylegan import Generator, prepare
from stylegan.seeding import stream

AIM = 5.0
SETTINGS = dataclasses.replace(PRESETS["default"], steps=10**6, start="average")


def public_step(
    prior: Generator, pictures: Tensor, perceptual: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[], None]:
    """Return the work of a step of all pictures, one after another."""
    codes = random_codes(prior, len(pictures)).requires_grad_()
    optimizer = torch.optim.Adam([codes], SETTINGS.lr)
    centre = prior.mapping.w_avg

    def step() -> None:
        optimizer.zero_grad()
        for i in range(len(pictures)):
            img, target = prior.synthesis(codes[i : i + 1]).img, pictures[i : i + 1]
            loss = (img - target).square().mean()
            loss = loss + SETTINGS.perceptual_weight * perceptual(img, target).sum()
            loss = loss + SETTINGS.regularizer * (codes[i] - centre).square().mean()
            loss.backward()
            loss.item()
        optimizer.step()

    return step


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the ratio of a step."""
    device, size, num = settings.device, 64 if settings.quick else 256, 2
    prior = random_generator(size, device, quick=settings.quick)
    perceptual = load_perceptual("lite0").to(device)
    pictures = torch.rand(num, 3, size, size, generator=stream(0, "benchmark")).to(device) * 2 - 1
    ready = prepare(prior)
    steps = inversion_steps(
        pictures, ready, SETTINGS, gen=stream(0, "inversion", device), perceptual=perceptual
    )
    works = {
        "ours": lambda: next(steps),
        "yardstick": public_step(plainly(prior), pictures, perceptual),
    }
    name = str(ready.synthesis.dtype).removeprefix("torch.")
    times = interleaved(works, settings, rounds=min(settings.rounds, 4))
    peak = matrix_peak(ready.synthesis.dtype, settings)
    limit = at_peak(count_operations(works["ours"]), times, peak)
    yield ratio(f"inversion step {size} px, {num} pictures, {name}", times, aim=AIM, note=limit)


if __name__ == "__main__":
    main("inversion", measure, __doc__)
