"""`prior score`: how far a generator's samples are from real pictures."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import torch

from fewshot_smis.data.collection import ImageCollection
from fewshot_smis.jobs.base import open_prior, pick_device, progress
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.metrics.distribution import frechet_distance, lite0_features
from fewshot_smis.runs import Run
from stylegan import Generator
from stylegan.errors import DataError
from stylegan.lite0 import Lite0, load_lite0
from stylegan.seeding import sample_z, stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreJob(Job):
    """Measure the Frechet distance in lite0's feature space between samples and pictures."""

    makes_run: ClassVar[bool] = False

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    data: Path = opt(None, "Folder of pictures.", required=True)
    count: int = opt(2000, "Pictures and samples compared.", min=4)
    batch: int = opt(32, "Pictures at once.", min=1)


def run_score(job: ScoreJob, run: Run | None) -> dict[str, Any]:
    """Return the distance of the samples, and that of two halves of the pictures as its floor."""
    device = pick_device(job.device)
    prior = open_prior(job.prior, device)
    backbone = load_lite0().to(device)
    images = ImageCollection(job.data, prior.img_resolution)
    count = min(job.count, len(images))
    if count < 4:
        raise DataError(f"{job.data}: {count} pictures; give at least 4, better 2,000")
    starts = range(0, count, job.batch)
    parts = []
    for i in progress(starts, len(starts), "pictures"):
        pixels = images.batch(torch.arange(i, min(i + job.batch, count))).to(device)
        parts.append(lite0_features(pixels.float() / 127.5 - 1, backbone))
    real = torch.cat(parts)
    z = sample_z(count, prior.z_dim, stream(job.seed, "prior/score")).to(device)
    drawn = sample_features(prior, z, backbone, job.batch)
    return {
        "frechet_distance_lite0": round(frechet_distance(real, drawn), 3),
        "floor_two_halves_of_the_pictures": round(frechet_distance(real[::2], real[1::2]), 3),
        "pictures": count,
        "resolution": prior.img_resolution,
    }


@torch.no_grad()
def sample_features(prior: Generator, z: torch.Tensor, backbone: Lite0, batch: int) -> torch.Tensor:
    """Return lite0 features [N, 320] of the samples of `z` [N, z_dim], in [-1, 1] as files are."""
    rows = []
    for part in progress(torch.split(z, batch), -(-len(z) // batch), "samples"):
        rows.append(lite0_features(prior(part).clamp(-1, 1), backbone))
    return torch.cat(rows)
