"""`invert`: photographs -> codes of the prior."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_smis.codes import save_codes
from fewshot_smis.data import sheets
from fewshot_smis.data.images import (
    list_images,
    read_image,
    resize_image,
    to_tensor,
    to_uint8,
    write_image,
)
from fewshot_smis.inversion import PRESETS, InversionSettings, inversion_steps
from fewshot_smis.jobs.base import open_prior, pick_device, progress, record_prior
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.perceptual import load_perceptual
from fewshot_smis.runs import Run
from stylegan import Prior
from stylegan.seeding import stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class InvertJob(Job):
    """Find the codes of photographs in a generator's latent space."""

    images: Path = opt(None, "Folder of pictures or pairs, or a picture.", required=True)
    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    preset: str = opt("default", "Settings; reference is the paper's.", choices=tuple(PRESETS))
    space: str | None = opt(None, "Latent space; by default w+.", choices=("w", "w+"))
    steps: int | None = opt(None, "Optimiser steps; by default the preset's.", min=1)
    lr: float | None = opt(None, "Learning rate; by default the preset's.", min=0)
    perceptual: str = opt(
        "lite0", "Perceptual distance.", choices=("lite0", "lpips-alex", "lpips-vgg", "none")
    )
    weights: Path | None = opt(None, "Weights of the perceptual network.")
    batch: int = opt(5, "Pictures optimised together.", min=1)
    limit: int | None = opt(None, "Use only the first so many pictures.", min=1)
    recompute: bool = opt(False, "Less GPU memory, in more time: for large generators.")
    every: int = opt(100, "Steps between checkpoints.", min=1)
    resume: Path | None = opt(None, "Run directory to continue.")

    def settings(self) -> InversionSettings:
        """Return the preset with the options that were given."""
        given = {"space": self.space, "steps": self.steps, "lr": self.lr}
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return dataclasses.replace(PRESETS[self.preset], recompute=self.recompute, **changes)


def run_invert(job: InvertJob, run: Run) -> dict[str, Any]:
    """Write codes.safetensors, one code a picture, and a sheet: picture, inversion, error."""
    device = pick_device(job.device)
    files = list_images(job.images)[: job.limit]
    prior = open_prior(job.prior, device)
    run.save_inputs({"images": job.images})
    record_prior(run, job.prior)
    distance = load_perceptual(job.perceptual, job.weights)
    if isinstance(distance, torch.nn.Module):
        distance = distance.to(device)
    size = prior.img_resolution
    images = torch.cat([resize_image(to_tensor(read_image(f))[None], size) for f in files])
    state = _restored(run)
    done: list[Tensor] = list(state["done"]) if state else []
    losses: list[float] = list(state["losses"]) if state else []
    groups = torch.split(images, job.batch)
    for i in range(len(done), len(groups)):
        inner = state["inner"] if state else None
        state = None
        settings = job.settings()
        steps = inversion_steps(
            groups[i].to(device),
            prior,
            settings,
            gen=stream(job.seed, f"invert/{i}", device),
            perceptual=distance,
            resume=inner,
        )
        left = settings.steps - (0 if inner is None else int(inner["step"]))
        for report in progress(steps, left, f"invert {i + 1}/{len(groups)}"):
            total = i * settings.steps + report.step
            if report.step % job.every == 0:
                run.report({"step": total, "group": i, "loss": report.loss.tolist()})
            if report.step % job.every == 0 and report.step < settings.steps:
                run.checkpoint(total, {"done": done, "losses": losses, "inner": report.state()})
        done.append(report.ws.detach().cpu())
        losses += report.best.tolist()
        run.checkpoint((i + 1) * settings.steps, {"done": done, "losses": losses, "inner": None})
    ws = torch.cat(done)
    names = [f.stem for f in files]
    save_codes(run.path / "codes.safetensors", ws, names, {"loss": losses})
    write_image(run.path / "sheet.png", inversion_sheet(prior, ws, images))
    return {"pictures": len(files), "loss": dict(zip(names, losses, strict=True))}


def _restored(run: Run) -> dict[str, Any] | None:
    """Return the newest checkpoint's content, or None in a fresh run."""
    checkpoint = run.latest_checkpoint()
    return None if checkpoint is None else torch.load(checkpoint, weights_only=True)


@torch.no_grad()
def inversion_sheet(prior: Prior, ws: Tensor, images: Tensor) -> Any:
    """Draw each picture [N,3,H,W], what its code gives, and four times their difference."""
    device = prior.mapping.w_avg.device
    parts = [prior.synthesis(part.to(device)).img.cpu() for part in torch.split(ws, 8)]
    drawn = torch.cat(parts).clamp(-1, 1)
    error = ((drawn - images).abs() * 2 - 1).clamp(-1, 1)
    rows = [list(r) for r in zip(*map(to_uint8, (images, drawn, error)), strict=True)]
    return sheets.grid(rows, col_titles=["picture", "inverted", "error x4"])
