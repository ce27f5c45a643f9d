"""The generator, prepared, against the public way: 256 and 1024 px, and the embedded one.

python -m benchmarks.generator [--device cuda]
"""

import statistics
from collections.abc import Iterator

import torch

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
from benchmarks.networks import drawing, plainly, random_codes, random_generator
from fewshot_smis.jobs.base import demo_prior
from stylegan import load_generator, prepare
from stylegan.prepared import psnr

AIMS = {"float32": 2.5, "bfloat16": 8.0}
DEMO_AIM = 15.0  # ms


@torch.no_grad()
def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the latency of the embedded generator, then the ratios of the large ones."""
    yield demo_latency(settings)
    peaks = {name: matrix_peak(getattr(torch, name), settings) for name in AIMS}
    sizes = (32, 64) if settings.quick else (256, 1024)
    for size, num in ((size, num) for size in sizes for num in (1, 8)):
        generator = random_generator(size, settings.device, quick=settings.quick)
        ws = random_codes(generator, num)
        nets = {name: prepare(generator, precision=name) for name in AIMS}
        works = {name: drawing(net, ws) for name, net in nets.items()}
        works["yardstick"] = drawing(plainly(generator), ws)
        rounds = min(settings.rounds, 2 if size * num > 2048 else settings.rounds)
        times = interleaved(works, settings, rounds=rounds)
        operations = count_operations(drawing(generator, ws))
        for name in AIMS:
            decibels = psnr(generator, nets[name])
            limit = at_peak(operations, times, peaks[name])
            yield ratio(
                f"generator {size} px, batch {num}, {name}",
                times,
                ours=name,
                aim=AIMS[name] if num == 1 else None,
                note=f"{decibels:.0f} dB against float32; {limit}",
            )


def demo_latency(settings: Settings) -> Figure:
    """Return the milliseconds that the embedded generator takes for one picture."""
    generator = load_generator(demo_prior(), device=settings.device)
    ready, ws = prepare(generator), random_codes(generator, 1)
    works = {"ours": drawing(ready, ws), "yardstick": drawing(plainly(generator), ws)}
    times = interleaved(works, settings, rounds=4 * settings.rounds)
    seconds = {name: statistics.median(t) for name, t in times.items()}
    spread = (1e3 * min(times["ours"]), 1e3 * max(times["ours"]))
    size = generator.img_resolution
    return Figure(f"embedded generator, {size} px, batch 1", 1e3 * seconds["ours"], "ms", spread,
                  DEMO_AIM, seconds, "at most")  # fmt: skip


if __name__ == "__main__":
    main("generator", measure, __doc__)
