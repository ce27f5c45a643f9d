"""Peak memory of drawing and of inversion at 1024 px: the public way, prepared, recomputed.

python -m benchmarks.memory [--device cuda]
"""

from collections.abc import Iterator

import torch

from benchmarks.measure import Figure, Settings, Work, main, peak_memory
from benchmarks.networks import drawing, plainly, random_codes, random_generator
from stylegan import prepare

AIM = 60.0  # % of the memory without recomputation
WAYS = ("yardstick", "ours", "ours recomputed")


def work(task: str, way: str, size: int, settings: Settings) -> Work:
    """Return a picture drawn, or a picture and its gradient by the codes."""
    generator = random_generator(size, settings.device, quick=settings.quick)
    ws = random_codes(generator, 1)
    if way == "yardstick":
        prior = plainly(generator)
    else:
        prior = prepare(generator, recompute="recomputed" in way)
    if task == "draw":
        return torch.no_grad()(drawing(prior, ws))
    codes = ws.requires_grad_()
    return lambda: torch.autograd.grad(prior.synthesis(codes).img.square().mean(), codes)


def peak(task: str, way: str, size: int, settings: Settings) -> float:
    """Return the MiB of a work, once it has been warmed up."""
    done = work(task, way, size, settings)
    done()
    return peak_memory(done, settings.device)


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the memory of an inversion step and of a picture, as shares of the yardstick's."""
    size = 64 if settings.quick else 1024
    note = "of the yardstick's; in brackets MiB"
    found = {way: peak("invert", way, size, settings) for way in WAYS}
    for way in WAYS[1:]:
        share = 100 * found[way] / found["yardstick"]
        name = f"peak memory, inversion step {size} px, {way}"
        yield Figure(name, share, "%", aim=AIM, details=found, note=note)
    found = {way: peak("draw", way, size, settings) for way in WAYS[:2]}
    share = 100 * found["ours"] / found["yardstick"]
    yield Figure(f"peak memory, picture {size} px", share, "%", details=found, note=note)


if __name__ == "__main__":
    main("memory", measure, __doc__)
