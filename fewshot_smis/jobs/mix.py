"""`mix` and `walk`: layouts x styles as sheets and films, and films of a class that grows.

Sheets name the seeds of their pictures; the same seed gives the same picture again.
"""

import dataclasses
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewshot_smis.codes import load_codes, save_codes
from fewshot_smis.data import Classes, sheets
from fewshot_smis.data.images import UInt8, write_image
from fewshot_smis.data.labels import colorize, resize_label
from fewshot_smis.data.pairs import load_label_maps
from fewshot_smis.data.video import check_film, write_film
from fewshot_smis.jobs.base import (
    demo_model,
    open_prior,
    pick_device,
    prior_of,
    progress,
    record_prior,
    run_file,
)
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.jobs.prior_figures import draw, film_frames, read_seeds
from fewshot_smis.jobs.train import open_model
from fewshot_smis.prior_figures import seed_codes
from fewshot_smis.runs import Run
from fewshot_smis.synthesis import mix_styles
from fewshot_smis.walks import class_walk, layout_walk, style_walk
from stylegan import Prior
from stylegan.errors import ConfigError

CELL = 128  # least side of a picture in a film
FORMATS = ("mp4", "webp", "gif")


class Named(NamedTuple):
    """Codes and what they are called on the sheet."""

    names: list[str]
    ws: Tensor  # [N,L,D]


def codes_or_seeds(flag: str, text: str, prior: Prior, *, psi: float = 1.0) -> Named:
    """Return the codes of a file or run, or of seeds such as "0-3,85", truncated by `psi`.

    Raises:
        ConfigError: There is no such file, and the text lists no seeds.
        ShapeError: The codes are of another prior.
    """
    path = Path(text)
    if path.exists():
        names, ws = load_codes(run_file(path, "codes.safetensors", "codes"), prior)
        return Named(names, ws.to(prior.mapping.w_avg.device))
    try:
        seeds = read_seeds(flag, text)
    except ConfigError as error:
        raise ConfigError(f"{error}, or name a file or run that holds codes") from error
    names = [f"seed {seed}" for seed in seeds]
    return Named(names, seed_codes(seeds, prior, truncation_psi=psi))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixJob(Job):
    """Give layouts the styles of others, layer by layer: every pair on one sheet, or a film."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    layout: str = opt("0-3", "Rows: seeds, or codes: a file, or a run of invert or synthesize.")
    style: str = opt("4-9", "Columns, likewise.")
    layers: str | None = opt(None, "Layers that take the style, as 8-13; by default the fine half.")
    alpha: float = opt(1.0, "Strength of the style, 0 to 1.", min=0, max=1)
    psi: float = opt(1.0, "Truncation of the codes of seeds.")
    film: str = opt(
        "none",
        "Film a walk: all layouts through the styles, or all styles through the layouts.",
        choices=("none", "styles", "layouts"),
    )
    frames: int = opt(30, "Frames of a film from code to code.", min=1)
    fps: float = opt(30.0, "Frames a second.", min=1, max=50)
    format: str = opt("webp", "File type; mp4 needs imageio-ffmpeg.", choices=FORMATS)
    batch: int = opt(8, "Pictures drawn at once.", min=1)


@torch.no_grad()
def run_mix(job: MixJob, run: Run) -> dict[str, Any]:
    """Write the mixed pictures, their codes, a sheet with the sources at its edges, the film."""
    film = run.path / f"film.{job.format}"
    if job.film != "none":
        check_film(film)
    prior = open_prior(job.prior, pick_device(job.device))
    record_prior(run, job.prior)
    layout = codes_or_seeds("layout", job.layout, prior, psi=job.psi)
    style = codes_or_seeds("style", job.style, prior, psi=job.psi)
    ws = mix_styles(layout.ws, style.ws, prior, layers=job.layers, alpha=job.alpha)  # [N,M,L,D]
    sources = draw(torch.cat([layout.ws, style.ws]), prior, job.batch)
    left, top = sources[: len(layout.ws)], sources[len(layout.ws) :]
    pictures = iter(draw(ws.flatten(0, 1), prior, job.batch))
    (run.path / "images").mkdir()
    names: list[str] = []
    rows: list[list[UInt8 | None]] = [[None, *top]]
    for row, source in zip(layout.names, left, strict=True):
        rows.append([source])
        for column in style.names:
            picture = next(pictures)
            rows[-1].append(picture)
            names.append(f"{row}-{column}".replace(" ", ""))
            write_image(run.path / "images" / f"{names[-1]}.png", picture)
    heads = ["layout", *style.names]
    sheet = sheets.grid(rows, row_titles=["style", *layout.names], col_titles=heads)
    write_image(run.path / "sheet.png", sheet)
    save_codes(run.path / "codes.safetensors", ws.flatten(0, 1).cpu(), names)
    facts: dict[str, Any] = {"layouts": layout.names, "styles": style.names}
    if job.film == "none":
        return facts
    walk = style_walk if job.film == "styles" else layout_walk
    path = walk(
        *(layout.ws, style.ws, prior),
        frames=job.frames,
        layers=job.layers,
        alpha=job.alpha,
    )  # [F,walks,L,D]
    shots = film_frames(path, prior, shape=(1, path.shape[1]), cell=CELL, batch=job.batch)
    write_film(film, progress(shots, len(path), "film"), fps=job.fps)
    return {**facts, "film": film.name, "frames": len(path)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WalkJob(Job):
    """Film a class of a label map as it grows or shrinks, there and back."""

    run: Path | None = opt(None, "Run of `train`; by default the embedded faces model.")
    labels: Path = opt(None, "Label map.", required=True)
    grow: str = opt("hair", "Name or id of the class that grows.")
    first: float = opt(0.0, "How far it is grown at the start, as a share of the map's side.")
    last: float = opt(0.1, "How far at the end; negative to shrink it.")
    over: str | None = opt(None, "Classes it may cover, as background,cloth; by default all.")
    maps: int = opt(8, "Maps on the way.", min=2)
    style: str | None = opt(None, "Styles: seeds as 0-3, or codes; by default as encoded.")
    frames: int = opt(6, "Frames from map to map.", min=1)
    fps: float = opt(30.0, "Frames a second.", min=1, max=50)
    format: str = opt("webp", "File type; mp4 needs imageio-ffmpeg.", choices=FORMATS)


@torch.no_grad()
def run_walk(job: WalkJob, run: Run) -> dict[str, Any]:
    """Write the film, the maps beside the pictures, and a sheet of its maps."""
    film = run.path / f"film.{job.format}"
    check_film(film)
    device = pick_device(job.device)
    source = demo_model() if job.run is None else job.run
    encoder, prior = open_model(source, None, device)
    classes = Classes.load(source / "classes.json")
    (name, label), *more = load_label_maps(job.labels, classes)
    if more:
        raise ConfigError(f"--labels {job.labels}: {1 + len(more)} maps; name one file")
    run.save_inputs({"model": source / "encoder.safetensors", "labels": job.labels})
    record_prior(run, prior_of(source, None))
    side = min(label.shape)
    walk = class_walk(
        label.to(device),
        class_id("grow", job.grow, classes),
        encoder,
        first=round(job.first * side),
        last=round(job.last * side),
        maps=job.maps,
        frames=job.frames,
        over=None if job.over is None else [class_id("over", x, classes) for x in split(job.over)],
    )
    path, titles = walk.ws[:, None], ["as encoded"]  # [F,S,L,D]
    if job.style is not None:
        style = codes_or_seeds("style", job.style, prior)
        path, titles = mix_styles(walk.ws, style.ws, prior), style.names
    maps = [colorize(x, classes) for x in shown(walk.labels, prior).cpu()]
    drawn = list(film_frames(path, prior, shape=(1, path.shape[1]), cell=CELL, batch=8))
    frames = [
        np.concatenate([sheets.magnify(maps[round(i / job.frames)], CELL), picture], axis=1)
        for i, picture in enumerate(progress(drawn, len(drawn), "film"))
    ]
    write_film(film, there_and_back(frames), fps=job.fps)
    pictures = draw(path[:: job.frames].flatten(0, 1), prior, 8)
    number = len(titles)
    rows = [maps, *(pictures[i::number] for i in range(number))]
    write_image(run.path / "sheet.png", sheets.grid(rows, row_titles=["map", *titles]))
    keys = [f"{name}-{i}" for i in range(len(maps))]
    save_codes(run.path / "codes.safetensors", walk.ws[:: job.frames].cpu(), keys)
    return {"film": film.name, "maps": len(maps), "frames": 2 * len(frames) - 2}


def split(text: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in text.split(",")]


def class_id(flag: str, text: str, classes: Classes) -> int:
    """Return the id of a class by its name or number.

    Raises:
        ConfigError: There is no such class.
    """
    if text in classes.names:
        return classes.names.index(text)
    if text.isdecimal() and int(text) < classes.num_classes:
        return int(text)
    raise ConfigError(f"--{flag} {text}: no such class; choose from {', '.join(classes.names)}")


def shown(labels: Tensor, prior: Prior) -> Tensor:
    """Bring maps [T,H,W] to the size of the prior's pictures."""
    img = prior.synthesis(prior.mapping.w_avg.expand(1, prior.num_ws, -1)).img
    return resize_label(labels, (img.shape[2], img.shape[3]))


def there_and_back(frames: list[UInt8]) -> Iterator[UInt8]:
    """Yield the frames forwards, then backwards without the ends, so that they loop."""
    return chain(frames, reversed(frames[1:-1]))
