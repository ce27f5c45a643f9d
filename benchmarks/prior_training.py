"""Pictures a second of a prior's training: ours against the same networks in float32 and NCHW.

    python -m benchmarks.prior_training --sizes 64 128 --steps 16 --repeats 5 --threads 2

Both trainings take the same steps: losses, R1 every 16th, path lengths every 4th, averages. They
are measured in turn, `--steps` steps each, so that whatever else the machine does meets both;
16 steps are one full round of the lazy regularisers. What is quoted is the median of the rounds'
ratios. See `benchmarks/yardstick.py` for what we compare with.
"""

import argparse
import copy
import json
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.yardstick import plain
from stylegan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from stylegan.critic import Critic
from stylegan.seeding import stream
from stylegan.training import PriorTrainer

G_WIDTHS = {4: 192, 8: 192, 16: 160, 32: 96, 64: 48, 128: 24}
D_WIDTHS = {4: 160, 8: 160, 16: 96, 32: 48, 64: 24, 128: 16}
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class Noise:
    """Pictures of noise: what they show does not matter to the clock."""

    c_dim = 0

    def __init__(self, size: int, count: int = 256) -> None:
        gen = stream(0, "benchmark")
        self.pixels = torch.randint(
            0, 256, (count, 3, size, size), generator=gen, dtype=torch.uint8
        )

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pixels)

    def batch(self, indices: Tensor) -> Tensor:
        """Return the pictures of `indices`."""
        return self.pixels[indices]

    def labels(self, indices: Tensor) -> Tensor:
        """Return no conditions."""
        return torch.zeros(len(indices), 0)


def trainers(size: int, batch: int, device: torch.device) -> dict[str, PriorTrainer]:
    """Return both trainings, from the same weights."""
    generator = Generator(
        GeneratorConfig(
            img_resolution=size,
            z_dim=128,
            w_dim=256,
            mapping_layers=4,
            channels=upto(size, G_WIDTHS),
        )
    ).to(device)
    critic = DiscriminatorConfig(img_resolution=size, channels=upto(size, D_WIDTHS))
    network = Discriminator(critic).to(device)
    slow = plain(copy.deepcopy(generator), copy.deepcopy(network))

    def make(G: Generator, D: torch.nn.Module, precision: str) -> PriorTrainer:
        judge = Critic(D, r1_gamma=1.0)
        return PriorTrainer(
            G, judge, Noise(size), batch=batch, path_weight=2.0, precision=precision
        )

    return {"ours": make(generator, network, "auto"), "yardstick": make(*slow, "float32")}


def upto(size: int, widths: dict[int, int]) -> dict[int, int]:
    """Return the widths of the blocks up to `size`."""
    return {res: width for res, width in widths.items() if res <= size}


def seconds(trainer: PriorTrainer, steps: int) -> float:
    """Return how long `steps` steps take; each step ends by reading its losses."""
    start = time.perf_counter()
    for _ in range(steps):
        trainer.step()
    return time.perf_counter() - start


def measure(
    size: int, batch: int, steps: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    """Return pictures a second of both, by round, and the ratio with its spread."""
    both = trainers(size, batch, device)
    for trainer in both.values():
        seconds(trainer, 1)  # warm-up: kernels are chosen, memory is claimed
        trainer.step_count = 0
    rounds: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(repeats):
        for name, trainer in both.items():
            rounds[name].append(batch * steps / seconds(trainer, steps))
    ratios = [a / b for a, b in zip(rounds["ours"], rounds["yardstick"], strict=True)]
    return {
        "size": size,
        "batch": batch,
        "steps_a_round": steps,
        "img_per_s": {name: round(statistics.median(v), 2) for name, v in rounds.items()},
        "img_per_s_rounds": {name: [round(x, 2) for x in v] for name, v in rounds.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "precision": str(both["ours"].dtype).removeprefix("torch."),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the figures hang on: versions, processor, threads, commit."""
    info = Path("/proc/cpuinfo")
    cpu = info.read_text() if info.is_file() else ""
    model = next((line for line in cpu.splitlines() if line.startswith("model name")), "")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cpu": model.partition(":")[2].strip() or platform.processor(),
        "cpu_flags": [flag for flag in FLAGS if f" {flag} " in cpu],
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    """Measure each size, print the ratios, save everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/prior_training.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for size in args.sizes:
        found = measure(size, args.batch, args.steps, args.repeats, args.device)
        low, high = found["ratio_spread"]
        print(f"{size} px: {found['ratio']} times ({low} to {high}), {found['img_per_s']}")
        results.append(found)
    content = {"machine": machine(args.device), "results": results}
    args.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
