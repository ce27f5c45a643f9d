"""`prior sample`: draw samples of a generator, and keep their codes."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from fewshot_smis.codes import save_codes
from fewshot_smis.data import sheets
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.jobs.base import open_prior, pick_device, progress
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run
from stylegan import Prior, StyleGAN3, user_transform
from stylegan.errors import ConfigError
from stylegan.seeding import sample_z, stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplePriorJob(Job):
    """Draw samples of a generator; their codes are kept, so that they can be labelled."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    count: int = opt(16, "Number of samples.", min=1)
    psi: float = opt(1.0, "Truncation: 1 is none, 0 the average picture.")
    batch: int = opt(8, "Pictures drawn at once.", min=1)
    rotate: float = opt(0.0, "Clockwise turn in degrees, of a StyleGAN3.")
    shift_x: float = opt(0.0, "Shift to the right in picture sides, of a StyleGAN3.")
    shift_y: float = opt(0.0, "Shift down in picture sides, of a StyleGAN3.")


def sample_prior(job: SamplePriorJob, run: Run) -> dict[str, Any]:
    """Write images/*.png, codes.safetensors and a sheet; labels beside them make pairs."""
    device = pick_device(job.device)
    prior = open_prior(job.prior, device)
    z = sample_z(job.count, prior.z_dim, stream(job.seed, "prior/sample")).to(device)
    c = _conditions(prior, job.count).to(device) if prior.c_dim else None
    motion = _motion(job, prior)
    names = [f"seed{job.seed}-{i:04d}" for i in range(job.count)]
    images, codes = [], []
    starts = range(0, job.count, job.batch)
    for i in progress(starts, len(starts), "sample"):
        part = slice(i, i + job.batch)
        with torch.no_grad():
            ws = prior.mapping(z[part], None if c is None else c[part], truncation_psi=job.psi)
            images += list(to_uint8(prior.synthesis(ws, **motion).img))
        codes.append(ws.cpu())
    (run.path / "images").mkdir()
    for name, image in zip(names, images, strict=True):
        write_image(run.path / "images" / f"{name}.png", image)
    save_codes(run.path / "codes.safetensors", torch.cat(codes), names, {"psi": job.psi})
    rows = [images[i : i + 8] for i in range(0, min(len(images), 64), 8)]
    write_image(run.path / "sheet.png", sheets.grid(rows))
    return {"samples": job.count}


def _motion(job: SamplePriorJob, prior: Prior) -> dict[str, torch.Tensor]:
    """Return how the pictures are turned and moved, as an argument of synthesis; none if not."""
    if not (job.rotate or job.shift_x or job.shift_y):
        return {}
    if not isinstance(prior, StyleGAN3):
        raise ConfigError(
            f"a {prior.config.family} generator cannot turn or move its pictures; leave out "
            "--rotate, --shift-x and --shift-y, or give a StyleGAN3"
        )
    return {"transform": user_transform(job.rotate, (job.shift_x, job.shift_y))}


def _conditions(prior: Prior, count: int) -> torch.Tensor:
    """Return one-hot conditions [count, c_dim], the classes in turn."""
    classes = torch.arange(count) % prior.c_dim
    return torch.nn.functional.one_hot(classes, prior.c_dim).float()
