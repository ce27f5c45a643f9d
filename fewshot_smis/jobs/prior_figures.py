"""`prior mixing`, `truncation`, `noise` and `interpolate`: a prior as the StyleGAN papers show it.

Every sheet names the seeds of its pictures; `prior sample --seed` draws them again.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewshot_smis.codes import save_codes
from fewshot_smis.data import sheets
from fewshot_smis.data.images import UInt8, to_uint8, write_image
from fewshot_smis.data.video import check_film, write_film
from fewshot_smis.jobs.base import open_prior, pick_device, progress, record_prior
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.prior_figures import (
    interpolate,
    layer_bands,
    noise_realizations,
    pixel_std,
    seed_codes,
    synthesize_noise,
    truncate,
)
from fewshot_smis.runs import Run
from fewshot_smis.synthesis import mix_styles, parse_layers
from stylegan import Prior
from stylegan.errors import ConfigError
from stylegan.seeding import stream


def read_seeds(flag: str, text: str) -> list[int]:
    """Read an option like "0-3,85" as the seeds it lists.

    >>> read_seeds("seeds", "0-3, 85")
    [0, 1, 2, 3, 85]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ConfigError(f"--{flag} {text}: write seeds like 0-3,85")
        seeds += range(int(first), int(last) + 1)
    return seeds


def read_strengths(text: str) -> list[float]:
    """Read an option like "1,0.5,-1" as numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--psis {text}: write numbers like 1,0.5,0,-1") from None


@torch.no_grad()
def draw(ws: Tensor, prior: Prior, batch: int) -> list[UInt8]:
    """Draw codes [N,L,D], `batch` at a time: N pictures uint8 [H,W,3]."""
    parts = torch.split(ws, batch)
    return [
        picture
        for part in progress(parts, len(parts), "draw")
        for picture in to_uint8(prior.synthesis(part).img)
    ]


def begin(job: Any, run: Run) -> Prior:
    """Open the prior of a job and note it in the run."""
    record_prior(run, job.prior)
    return open_prior(job.prior, pick_device(job.device))


def size_range(prior: Prior, layers: Sequence[int]) -> str:
    """Say at which sizes `layers` work, as "4-8 px"."""
    sizes = [prior.synthesis.layer_resolutions[i] for i in layers]
    low, high = min(sizes), max(sizes)
    return f"{low} px" if low == high else f"{low}-{high} px"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixingJob(Job):
    """Style mixing: copy the coarse, middle or fine styles of sources B to sources A."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    sources_a: str = opt("0-1", "Seeds of the rows, which give the rest.")
    sources_b: str = opt("2-6", "Seeds of the columns, whose styles are copied.")
    layers: str | None = opt(None, "Layers copied, as 0-3; by default each band in turn.")
    psi: float = opt(1.0, "Truncation: 1 is none, 0 the average picture.")
    label: int = opt(0, "Class drawn, where the generator is conditional.", min=0)
    batch: int = opt(8, "Pictures drawn at once.", min=1)


def run_mixing(job: MixingJob, run: Run) -> dict[str, Any]:
    """Write the sheet (StyleGAN, figure 3) and the mixed codes."""
    prior = begin(job, run)
    seeds_a, seeds_b = (
        read_seeds("sources-a", job.sources_a),
        read_seeds("sources-b", job.sources_b),
    )
    ws_a, ws_b = (
        seed_codes(seeds, prior, truncation_psi=job.psi, label=job.label)
        for seeds in (seeds_a, seeds_b)
    )
    bands = layer_bands(prior)
    if job.layers is not None:
        bands = {f"layers {job.layers}": parse_layers(job.layers, prior.num_ws)}
    mixed = [mix_styles(ws_a, ws_b, prior, layers=layers) for layers in bands.values()]
    ws = torch.stack(mixed)  # [bands,A,B,L,D]
    sources = draw(torch.cat([ws_a, ws_b]), prior, job.batch)
    left, top = sources[: len(ws_a)], sources[len(ws_a) :]
    pictures = iter(draw(ws.flatten(0, 2), prior, job.batch))
    rows: list[list[UInt8 | None]] = [[None, *top]]
    titles, names = [""], []
    for band, layers in bands.items():
        for seed_a, source in zip(seeds_a, left, strict=True):
            rows.append([source, *(next(pictures) for _ in seeds_b)])
            titles.append(f"A: seed {seed_a}\n{band} from B\n({size_range(prior, layers)})")
            names += [f"a{seed_a}-b{seed_b}-{band}" for seed_b in seeds_b]
    heads = ["source A", *(f"B: seed {seed}" for seed in seeds_b)]
    write_image(run.path / "sheet.png", sheets.grid(rows, row_titles=titles, col_titles=heads))
    save_codes(run.path / "codes.safetensors", ws.flatten(0, 2).cpu(), names, {"psi": job.psi})
    return {"pictures": len(names), "bands": {name: list(i) for name, i in bands.items()}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncationJob(Job):
    """Truncation: move samples towards the average picture, and beyond it to their opposites."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    seeds: str = opt("0-3", "Seeds of the rows.")
    psis: str = opt("1,0.7,0.5,0,-0.5,-1", "Strengths of the columns.")
    label: int = opt(0, "Class drawn, where the generator is conditional.", min=0)
    batch: int = opt(8, "Pictures drawn at once.", min=1)


def run_truncation(job: TruncationJob, run: Run) -> dict[str, Any]:
    """Write the sheet (StyleGAN, figure 8) and the codes."""
    prior = begin(job, run)
    seeds, psis = read_seeds("seeds", job.seeds), read_strengths(job.psis)
    ws = truncate(seed_codes(seeds, prior, label=job.label), prior.mapping.w_avg, psis)
    pictures = draw(ws.flatten(0, 1), prior, job.batch)
    rows = [pictures[i : i + len(psis)] for i in range(0, len(pictures), len(psis))]
    titles = [f"seed {seed}" for seed in seeds]
    heads = [f"psi = {psi:g}" for psi in psis]
    write_image(run.path / "sheet.png", sheets.grid(rows, row_titles=titles, col_titles=heads))
    names = [f"seed{seed}-psi{psi:g}" for seed in seeds for psi in psis]
    save_codes(run.path / "codes.safetensors", ws.flatten(0, 1).cpu(), names)
    return {"pictures": len(pictures)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseJob(Job):
    """Noise: what it adds in all, no, fine, middle or coarse layers, and where it matters."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    seeds: str = opt("0-2", "Seeds of the rows.")
    realizations: int = opt(100, "Draws of noise behind the standard deviation.", min=2)
    psi: float = opt(1.0, "Truncation: 1 is none, 0 the average picture.")
    label: int = opt(0, "Class drawn, where the generator is conditional.", min=0)


@torch.no_grad()
def run_noise(job: NoiseJob, run: Run) -> dict[str, Any]:
    """Write the sheet (StyleGAN, figures 4 and 5)."""
    prior = begin(job, run)
    seeds = read_seeds("seeds", job.seeds)
    ws = seed_codes(seeds, prior, truncation_psi=job.psi, label=job.label)
    choices: dict[str, Sequence[int]] = {"all noise": range(prior.num_ws), "no noise": ()}
    for name, layers in reversed(layer_bands(prior).items()):  # fine first, as in the paper
        choices[f"{name} only\n({size_range(prior, layers)})"] = layers
    columns = [list(to_uint8(synthesize_noise(ws, prior, layers))) for layers in choices.values()]
    draws = noise_realizations(ws, prior, job.realizations, stream(job.seed, "prior/noise"))
    std = pixel_std(progress(draws, job.realizations, "noise"))
    white = float(std.max())
    grey = (255 * std / max(white, 1e-8)).round().byte().cpu().numpy()  # [N,H,W]
    columns.append(list(np.repeat(grey[..., None], 3, axis=3)))
    heads = [*choices, f"standard deviation\nwhite = {white:.2g}"]
    rows = [list(row) for row in zip(*columns, strict=True)]
    titles = [f"seed {seed}" for seed in seeds]
    write_image(run.path / "sheet.png", sheets.grid(rows, row_titles=titles, col_titles=heads))
    return {
        "pictures": len(seeds),
        "mean_std": round(float(std.mean()), 5),  # of a range of 2
        "largest_std": round(white, 5),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class InterpolateJob(Job):
    """Film a walk through seeds that ends where it began; several walks at once in a grid."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    seeds: str = opt("0-7", "Seeds passed; each walk of the grid takes its share, in order.")
    columns: int = opt(1, "Walks side by side.", min=1)
    rows: int = opt(1, "Walks one above the other.", min=1)
    frames: int = opt(60, "Frames from seed to seed.", min=1)
    fps: float = opt(30.0, "Frames a second.", min=1, max=50)
    loop: bool = opt(True, "Go back to the first seed, so that the film has no seam.")
    format: str = opt(
        "webp", "File type; mp4 needs imageio-ffmpeg.", choices=("mp4", "webp", "gif")
    )
    psi: float = opt(0.7, "Truncation: 1 is none, 0 the average picture.")
    cell: int = opt(128, "Least side of a picture; smaller ones are enlarged.", min=1)
    label: int = opt(0, "Class drawn, where the generator is conditional.", min=0)
    batch: int = opt(8, "Pictures drawn at once.", min=1)

    def walks(self) -> list[list[int]]:
        """Return the seeds of each walk."""
        seeds, number = read_seeds("seeds", self.seeds), self.rows * self.columns
        if len(seeds) % number:
            raise ConfigError(
                f"--seeds {self.seeds}: {len(seeds)} seeds, which {number} walks cannot share; "
                f"give {number}, {2 * number} or {3 * number}"
            )
        share = len(seeds) // number
        return [seeds[i : i + share] for i in range(0, len(seeds), share)]


def run_interpolate(job: InterpolateJob, run: Run) -> dict[str, Any]:
    """Write the film, and a sheet of the seeds it passes."""
    film = run.path / f"film.{job.format}"
    check_film(film)
    walks = job.walks()
    prior = begin(job, run)
    keys = torch.stack(
        [seed_codes(walk, prior, truncation_psi=job.psi, label=job.label) for walk in walks], dim=1
    )  # [keys,walks,L,D]
    ws = interpolate(keys, job.frames, loop=job.loop)  # [F,walks,L,D]
    pictures = film_frames(ws, prior, shape=(job.rows, job.columns), cell=job.cell, batch=job.batch)
    shots = progress(pictures, len(ws), "film")
    write_film(film, shots, fps=job.fps)
    pictures = iter(draw(keys.transpose(0, 1).flatten(0, 1), prior, job.batch))
    rows = [[next(pictures) for _ in walk] for walk in walks]
    titles = ["seeds " + ", ".join(map(str, walk)) for walk in walks]
    write_image(run.path / "sheet.png", sheets.grid(rows, row_titles=titles))
    return {"film": film.name, "frames": len(ws), "seconds": round(len(ws) / job.fps, 2)}


@torch.no_grad()
def film_frames(
    ws: Tensor, prior: Prior, *, shape: tuple[int, int], cell: int, batch: int
) -> Iterator[UInt8]:
    """Draw codes [F,walks,L,D] as frames, the walks of each laid out in `shape` rows and columns.

    Pictures whose side is below `cell` are enlarged; `batch` are drawn at once.
    """
    rows, columns = shape
    for part in torch.split(ws, max(batch // ws.shape[1], 1)):
        img = to_uint8(prior.synthesis(part.flatten(0, 1)).img)  # [f * walks,H,W,3]
        tiles = img.reshape(len(part), rows, columns, *img.shape[1:])
        for tile in tiles.transpose(0, 1, 3, 2, 4, 5):  # [rows,H,columns,W,3]
            height, width = tile.shape[0] * tile.shape[1], tile.shape[2] * tile.shape[3]
            yield sheets.magnify(tile.reshape(height, width, 3), cell * min(rows, columns))
