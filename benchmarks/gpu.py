"""All figures of a GPU in one command of under three minutes: printed, and saved after each part.

    python -m benchmarks.gpu [--out FILE] [--seconds 150] [--only PART ...] [--quick]

A part that fails, or takes longer than it may, is reported, and the rest goes on. The last part
compiles, which takes longest.
"""

import argparse
import contextlib
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from benchmarks import discriminator, encoder, inversion, labels, memory, ops, prior_training
from benchmarks.measure import Figure, Settings, Work, interleaved, machine, show, synchronize
from benchmarks.networks import drawing, plainly, random_codes, random_generator
from fewshot_smis.data.files import write_json
from fewshot_smis.jobs.base import demo_prior
from stylegan import Prior, load_generator, prepare
from stylegan.ops import diagnose
from stylegan.prepared import psnr

Part = Callable[[Settings], Iterator[Figure]]


def images_a_second(
    name: str, works: dict[str, Work], num: int, settings: Settings
) -> Iterator[Figure]:
    """Yield the pictures a second of each work, measured in turns."""
    for way, seconds in interleaved(works, settings).items():
        found = [num / s for s in seconds]
        spread = (min(found), max(found))
        yield Figure(f"{name}, {way}", statistics.median(found), "img/s", spread)


def captured(prior: Prior, ws: Tensor) -> Work:
    """Return the drawing of `ws` as a CUDA graph that is replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # kernels are chosen before the graph is recorded
        for _ in range(3):
            prior.synthesis(ws)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        prior.synthesis(ws)
    return graph.replay


@torch.no_grad()
def large_generator(settings: Settings) -> Iterator[Figure]:
    """Yield pictures a second of config F: eager and captured, and the yardstick's."""
    for size, num in ((64, 2),) if settings.quick else ((1024, 8), (256, 8), (1024, 1)):
        generator = random_generator(size, settings.device, quick=settings.quick)
        ws = random_codes(generator, num)
        half, exact = (prepare(generator, precision=p) for p in ("bfloat16", "float32"))
        works = {
            "bfloat16, eager": drawing(half, ws),
            "float32, eager": drawing(exact, ws),
            "yardstick": drawing(plainly(generator), ws),
        }
        if settings.device.type == "cuda":
            works["bfloat16, captured"] = captured(half, ws)
        name = f"generator {size} px, batch {num}"
        yield from images_a_second(name, works, num, settings)
        yield Figure(f"{name}, bfloat16 against float32", psnr(generator, half), "dB", aim=40.0)
        torch.cuda.empty_cache()


@torch.no_grad()
def latency(settings: Settings) -> Iterator[Figure]:
    """Yield the milliseconds of one picture of the embedded generator."""
    ready = prepare(load_generator(demo_prior(), device=settings.device))
    ws = random_codes(ready, 1)
    works = {"eager": drawing(ready, ws)}
    if settings.device.type == "cuda":
        works["captured"] = captured(ready, ws)
    for way, seconds in interleaved(works, settings).items():
        found = [1e3 * s for s in seconds]
        spread = (min(found), max(found))
        name = f"embedded generator, {ready.img_resolution} px, batch 1, {way}"
        yield Figure(name, statistics.median(found), "ms", spread)


def profile(settings: Settings) -> Iterator[Figure]:
    """Yield the share of each kernel in drawing 8 pictures of 1024 px, the largest first."""
    size, num = (64, 2) if settings.quick else (1024, 8)
    generator = random_generator(size, settings.device, quick=settings.quick)
    ready = prepare(generator, precision="bfloat16")
    ws = random_codes(ready, num)
    with torch.no_grad():
        ready.synthesis(ws)
        with torch.profiler.profile() as found:
            ready.synthesis(ws)
            synchronize(settings.device)
    events = [
        (e.key, e.self_device_time_total or e.self_cpu_time_total) for e in found.key_averages()
    ]
    total = sum(t for _, t in events)
    for key, spent in sorted(events, key=lambda e: -e[1])[:8]:
        yield Figure(f"profile, {key[:60]}", 100 * spent / total, "%")


@torch.no_grad()
def compiled(settings: Settings) -> Iterator[Figure]:
    """Yield pictures a second of the compiled generator beside the eager one."""
    size, num = (32, 2) if settings.quick else (1024, 8)
    generator = random_generator(size, settings.device, quick=settings.quick)
    ready = prepare(generator, precision="bfloat16")
    ws = random_codes(ready, num)
    program = torch.compile(ready.synthesis)
    works: dict[str, Work] = {
        "bfloat16, eager again": drawing(ready, ws),
        "bfloat16, compiled": lambda: program(ws),
    }
    yield from images_a_second(f"generator {size} px, batch {num}", works, num, settings)


PARTS: dict[str, Part] = {
    "generator": large_generator,
    "kernels": ops.measure,
    "latency": latency,
    "inversion": inversion.measure,
    "encoder": encoder.measure,
    "discriminator": discriminator.measure,
    "labels": labels.measure,
    "memory": memory.measure,
    "prior training": prior_training.measure,
    "profile": profile,
    "compiled": compiled,
}


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block once so many seconds have passed."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(settings: Settings, seconds: float, out: Path, parts: Sequence[str] = ()) -> None:
    """Do all parts, or those named, within `seconds`, and keep what they give."""
    content: dict[str, Any] = {
        "machine": machine(settings.device),
        "operators": diagnose(),
        "figures": [],
        "failures": {},
        "seconds": {},
    }
    print(content["operators"], flush=True)
    end = time.perf_counter() + seconds
    for name, part in PARTS.items():
        if parts and name not in parts:
            continue
        start = time.perf_counter()
        if start >= end:
            content["failures"][name] = "left out: no time was left"
            continue
        try:
            with at_most(end - start):
                for figure in part(settings):
                    print(show(figure), flush=True)
                    content["figures"].append(asdict(figure))
        except Exception as error:  # whatever it is, the other parts still count
            traceback.print_exc(limit=4)
            content["failures"][name] = f"{type(error).__name__}: {error}"[:500]
        content["seconds"][name] = round(time.perf_counter() - start, 1)
        write_json(out, content)
    write_json(out, content)
    print("failures:", content["failures"] or "none", "seconds:", content["seconds"])


def main() -> None:
    """Be the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=(), metavar="PART")
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it works")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    run(Settings(args.device, args.rounds, args.quick), args.seconds, args.out, args.only)


if __name__ == "__main__":
    main()
