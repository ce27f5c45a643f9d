"""Peak memory of drawing and of inversion at 1024 px: the public way, prepared, recomputed.

    python -m benchmarks.memory [--device cuda]

Each work has a process of its own, which gives freed memory back to the system, so that the peak is
what was held at once. The commands keep freed memory for speed, and what lies between tensors of
different sizes with it: how large a process becomes in that way is measured beside.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from benchmarks.measure import Figure, Settings, Work, main, peak_memory
from benchmarks.networks import drawing, plainly, random_codes, random_generator
from stylegan import prepare
from stylegan.memory import keep_freed_memory

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


def peak(task: str, way: str, size: int, settings: Settings, *, kept: bool = False) -> float:
    """Return the MiB of a work in a process of its own, which `kept` lets keep freed memory."""
    threads, spawn = torch.get_num_threads(), get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(_peak, task, way, size, settings, threads, kept).result()


def _peak(task: str, way: str, size: int, settings: Settings, threads: int, kept: bool) -> float:
    torch.set_num_threads(threads)
    if kept:
        keep_freed_memory()
    done = work(task, way, size, settings)
    done()  # warmed up
    return peak_memory(done, settings.device)


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the memory of an inversion step and of a picture, as shares of the yardstick's."""
    size = 64 if settings.quick else 1024
    note = "of the yardstick's; in brackets MiB"
    for kept in (False, True) if settings.device.type == "cpu" else (False,):
        found = {way: peak("invert", way, size, settings, kept=kept) for way in WAYS}
        where = ", freed memory kept" if kept else ""
        for way in WAYS[1:]:
            share = 100 * found[way] / found["yardstick"]
            name = f"peak memory, inversion step {size} px, {way}{where}"
            yield Figure(name, share, "%", aim=AIM, details=found, note=note)
    found = {way: peak("draw", way, size, settings) for way in WAYS[:2]}
    share = 100 * found["ours"] / found["yardstick"]
    yield Figure(f"peak memory, picture {size} px", share, "%", details=found, note=note)


if __name__ == "__main__":
    main("memory", measure, __doc__)
