"""What all benchmarks share: clocks, rounds in turn, ratios with their spread, records.

Works that are compared run in turns, one after the other in each round, so that whatever else the
machine does meets all of them. What is quoted is the median of the rounds' ratios.
"""

import argparse
import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stylegan.memory import keep_freed_memory
from stylegan.ops import winograd

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
RESULTS = Path("benchmarks/results")
SHORTEST = 0.02  # seconds a timed work takes at least; shorter ones are repeated within
LONGEST = 1.0  # seconds of the warm-up, beyond which nothing has to be repeated

Work = Callable[[], object]
Times = dict[str, list[float]]  # seconds of each round


@dataclass(frozen=True)
class Figure:
    """One line of a table: what was measured, and what was aimed at."""

    work: str
    value: float
    unit: str  # "times", "%", "ms", "img/s", "GB/s", "GFLOP/s" or "MiB"
    spread: tuple[float, float] | None = None
    aim: float | None = None
    details: dict[str, float] = field(default_factory=dict)  # seconds of each work, or MiB
    note: str = ""


@dataclass(frozen=True)
class Settings:
    """What every benchmark is asked for."""

    device: torch.device
    rounds: int
    quick: bool  # small shapes: to see that a benchmark works, not to be quoted


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    works: Mapping[str, Work], settings: Settings, *, rounds: int = 0, warm_up: bool = True
) -> Times:
    """Return the seconds that each work takes in each round.

    The warm-up lets kernels be chosen and memory be claimed; short works are repeated within a
    round, as often as it tells.
    """
    repeats = dict.fromkeys(works, 1)
    for name, work in works.items() if warm_up else ():
        if _seconds(work, 1, settings.device) < LONGEST:
            repeats[name] = max(1, int(SHORTEST / _seconds(work, 1, settings.device)))
    times: Times = {name: [] for name in works}
    for _ in range(rounds or settings.rounds):
        for name, work in works.items():
            times[name].append(_seconds(work, repeats[name], settings.device))
    return times


def _seconds(work: Work, repeats: int, device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / repeats


def ratio(
    work: str,
    times: Times,
    *,
    ours: str = "ours",
    base: str = "yardstick",
    aim: float | None = None,
    note: str = "",
) -> Figure:
    """Return how many times faster `ours` is than `base`."""
    ratios = [b / a for a, b in zip(times[ours], times[base], strict=True)]
    seconds = {name: statistics.median(times[name]) for name in (ours, base)}
    spread = (min(ratios), max(ratios))
    return Figure(work, statistics.median(ratios), "times", spread, aim, seconds, note)


def rate(
    work: str, seconds: list[float], amount: float, unit: str, *, aim: float | None = None
) -> Figure:
    """Return `amount` a second."""
    found = [amount / s for s in seconds]
    return Figure(work, statistics.median(found), unit, (min(found), max(found)), aim)


def copy_bandwidth(settings: Settings) -> float:
    """Return the bytes a second, read and written, of copying a large tensor."""
    source = torch.zeros(2**26 if settings.device.type == "cuda" else 2**24, device=settings.device)
    target = torch.empty_like(source)
    seconds = interleaved({"copy": lambda: target.copy_(source)}, settings, rounds=10)["copy"]
    return 2 * source.numel() * source.element_size() / statistics.median(seconds)


def matrix_peak(dtype: torch.dtype, settings: Settings) -> float:
    """Return the operations a second of a product of large matrices."""
    side = 4096 if settings.device.type == "cuda" else 1024
    a = torch.randn(side, side, device=settings.device).to(dtype)
    seconds = interleaved({"product": lambda: a @ a}, settings, rounds=5)["product"]
    return 2 * side**3 / statistics.median(seconds)


def count_operations(work: Work) -> int:
    """Return the multiplications and additions of the convolutions and products in `work`.

    Convolutions that choose Winograd's way as they run are counted as plain ones; prepared
    generators, which chose before, as they multiply.
    """
    least, winograd.MIN_CHANNELS = winograd.MIN_CHANNELS, sys.maxsize
    try:
        with FlopCounterMode(display=False) as counter:
            work()
    finally:
        winograd.MIN_CHANNELS = least
    return counter.get_total_flops()


def at_peak(operations: int, times: Times, peak: float) -> str:
    """Say how many times faster than the yardstick so many operations are at the matrix peak."""
    limit = statistics.median(times["yardstick"]) * peak / operations
    return f"{limit:.1f} times is the matrix peak"


def peak_memory(work: Work, device: torch.device) -> float:
    """Return the most memory in MiB that `work` holds beyond what was held before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark is now what is held
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """Return a line of this process's memory status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the figures hang on: versions, processor, threads, card, commit."""
    info = Path("/proc/cpuinfo")
    cpu = info.read_text() if info.is_file() else ""
    model = next((line for line in cpu.splitlines() if line.startswith("model name")), "")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cpu": model.partition(":")[2].strip() or platform.processor(),
        "cpu_flags": [flag for flag in FLAGS if f" {flag} " in cpu],
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "commit": commit.stdout.strip(),
    }


def show(figure: Figure) -> str:
    """Return a figure as one line of text."""
    spread = "" if figure.spread is None else f" ({figure.spread[0]:.3g} to {figure.spread[1]:.3g})"
    aim = "" if figure.aim is None else f", aim {figure.aim:g}"
    parts = ", ".join(f"{name} {value:.4g}" for name, value in figure.details.items())
    line = f"{figure.work}: {figure.value:.3g} {figure.unit}{spread}{aim}"
    return line + (f" [{parts}]" if parts else "") + (f" {figure.note}" if figure.note else "")


def save(path: Path, figures: Iterable[Figure], device: torch.device) -> None:
    """Write figures and the machine they come from as JSON."""
    content = {"machine": machine(device), "figures": [asdict(figure) for figure in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def main(name: str, measure: Callable[[Settings], Iterator[Figure]], text: str | None) -> None:
    """Be the command of one benchmark: print its figures and save them."""
    keep_freed_memory()  # as the commands do; the yardstick gains from it as well
    parser = argparse.ArgumentParser(description=(text or "").strip().splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it works")
    parser.add_argument("--out", type=Path, help="file of the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = []
    for figure in measure(Settings(args.device, args.rounds, args.quick)):
        print(show(figure), flush=True)
        figures.append(figure)
    kind = args.device.type
    save(args.out or RESULTS / f"{name}-{kind}.json", figures, args.device)
    sys.stdout.flush()
