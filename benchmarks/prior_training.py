"""Pictures a second of a prior's training: ours against the same networks in float32 and NCHW.

    python -m benchmarks.prior_training [--device cuda]

The networks are those of the embedded prior at the given size. Both trainings take the same steps:
losses, R1 every 16th, path lengths every 4th, averages; 16 steps, one full round of the lazy
regularisers, are one measurement. See `benchmarks/yardstick.py` for what we compare with.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measure import (
    Figure,
    Settings,
    Work,
    interleaved,
    main,
    rate,
    ratio,
)
from benchmarks.yardstick import plain
from stylegan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from stylegan.captured import WARM_UP
from stylegan.critic import Critic
from stylegan.seeding import stream
from stylegan.training import PriorTrainer

G_WIDTHS = {4: 192, 8: 192, 16: 160, 32: 96, 64: 48, 128: 24}
AIM = 3.0
D_WIDTHS = {4: 160, 8: 160, 16: 96, 32: 48, 64: 24, 128: 16}


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
        captured = precision == "auto"
        options = {"batch": batch, "path_weight": 2.0, "precision": precision}
        return PriorTrainer(G, judge, Noise(size), captured=captured, **options)

    return {"ours": make(generator, network, "auto"), "yardstick": make(*slow, "float32")}


def upto(size: int, widths: dict[int, int]) -> dict[int, int]:
    """Return the widths of the blocks up to `size`."""
    return {res: width for res, width in widths.items() if res <= size}


def round_of(trainer: PriorTrainer, steps: int) -> Work:
    """Return the work of `steps` steps; each ends by reading its losses."""

    def work() -> None:
        for _ in range(steps):
            trainer.step()

    return work


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the ratio at 64 and 128 px, and pictures a second."""
    batch, steps = (4, 2) if settings.quick else (16, 16)
    for size in (8,) if settings.quick else (64, 128):
        both = trainers(size, batch, settings.device)
        for trainer in both.values():
            warm_up = steps * (WARM_UP + 1) + 1 if trainer.recorder else 1
            for _ in range(warm_up):  # kernels are chosen, memory is claimed, graphs recorded
                trainer.step()
            trainer.step_count = 0
        works = {name: round_of(trainer, steps) for name, trainer in both.items()}
        times = interleaved(works, settings, rounds=min(settings.rounds, 3), warm_up=False)
        dtype = both["ours"].dtype
        precision = str(dtype).removeprefix("torch.")
        title = f"prior training {size} px, batch {batch}, {precision}"
        yield ratio(title, times, aim=AIM)
        for name, seconds in times.items():
            yield rate(f"prior training {size} px, {name}", seconds, batch * steps, "img/s")


if __name__ == "__main__":
    main("prior_training", measure, __doc__)
