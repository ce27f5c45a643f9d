"""Which critic teaches a generator faster here: StyleGAN2's own, or with projected heads?

    python -m benchmarks.critics --data faces:seed=100000,count=4000,cache=cache \
        --heldout faces:seed=200000,count=500,cache=cache \
        --transfer fewshot_smis/demo/prior.safetensors --minutes 40

Both trainings start from the same weights and take turns on the same machine, measured in the time
of its processor, so that whatever else it does costs neither. After each turn the averaged
generator is judged against held-out pictures, in the feature space of lite0, which the projected
heads look through too, and by patches without any network, where neither has an advantage. Writes
critics.json after each turn, and the last sheet of samples of both.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import machine
from fewshot_smis.data.files import write_json
from fewshot_smis.data.images import write_image
from fewshot_smis.data.sources import open_source
from fewshot_smis.jobs.prior_train import TrainPriorJob, build_trainer, sample_sheet
from fewshot_smis.metrics.distribution import frechet_distance
from fewshot_smis.metrics.features import load_space
from fewshot_smis.metrics.pyramid import sliced_wasserstein
from stylegan.seeding import sample_z, stream
from stylegan.training import PriorTrainer

CRITICS = ("plain", "projected")


def build(critic: str, args: argparse.Namespace) -> PriorTrainer:
    """Return a training with that critic, all else equal."""
    job = TrainPriorJob(
        data=args.data,
        critic=critic,
        transfer=args.transfer,
        resolution=args.resolution,
        r1_gamma=args.r1_gamma,
        path_weight=0.0,
    )
    return build_trainer(job, torch.device("cpu"))


class Judge:
    """Compares samples with pictures that no training is shown."""

    def __init__(self, pictures: Tensor) -> None:
        self.space = load_space("lite0", None, torch.device("cpu"))
        self.pictures = pictures
        self.features = self._features(pictures)

    def __call__(self, trainer: PriorTrainer) -> dict[str, Any]:
        """Return the distances of as many samples of the averaged generator."""
        z = sample_z(len(self.pictures), trainer.G.z_dim, stream(5, "benchmark"))
        with torch.no_grad():
            drawn = torch.cat([trainer.G_ema(part) for part in z.split(50)]).clamp(-1, 1)
        patches = sliced_wasserstein(drawn, self.pictures, stream(0, "benchmark"))
        return {
            "kimg": trainer.images_seen / 1000,
            "frechet_lite0": round(frechet_distance(self._features(drawn), self.features), 1),
            "sliced_wasserstein": round(sum(patches.values()) / len(patches), 1),
        }

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return torch.cat([self.space(part) for part in images.split(50)])


def train(trainer: PriorTrainer, seconds: float) -> float:
    """Take steps for so long on the processor; return how long it was."""
    start = time.process_time()
    while time.process_time() - start < seconds:
        trainer.step()
    return time.process_time() - start


def main() -> None:
    """Train both in turns, judge them after each, and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", required=True, help="as of prior train")
    parser.add_argument("--heldout", required=True, help="such pictures too, to judge by")
    parser.add_argument("--count", type=int, default=500, help="held-out pictures to judge by")
    parser.add_argument("--transfer", type=Path, required=True, help="where both start")
    parser.add_argument("--resolution", default="")
    parser.add_argument("--r1-gamma", type=float, default=0.1)
    parser.add_argument("--minutes", type=float, default=40.0, help="of a core, for each critic")
    parser.add_argument("--turn", type=float, default=120.0, help="seconds of a core")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()

    trainers = {critic: build(critic, args) for critic in CRITICS}
    size = trainers["plain"].G.config.img_size
    heldout = open_source(args.heldout, size, labels=False)
    judge = Judge(heldout.batch(torch.arange(min(args.count, len(heldout)))).float() / 127.5 - 1)
    spent = dict.fromkeys(CRITICS, 0.0)
    curves: dict[str, list[dict[str, Any]]] = {critic: [] for critic in CRITICS}
    while min(spent.values()) < args.minutes * 60 + args.turn:
        for critic, trainer in trainers.items():
            point = {"minutes": round(spent[critic] / 60, 2), **judge(trainer)}
            curves[critic].append(point)
            print(critic, json.dumps(point), flush=True)
            spent[critic] += train(trainer, args.turn)
        content = {"machine": machine(torch.device("cpu")), "curves": curves}
        write_json(args.out / "critics.json", content)
    for critic, trainer in trainers.items():
        write_image(args.out / f"critics-{critic}.png", sample_sheet(trainer))


if __name__ == "__main__":
    main()
