"""`prior dataset` and `prior augment`: what a prior is trained on, packed and looked at."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import torch
from tqdm import tqdm

from fewshot_smis.data import sheets
from fewshot_smis.data.archive import write_dataset
from fewshot_smis.data.collection import PictureSource
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.data.sources import open_source
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run
from stylegan.augment import PRESETS, Augment
from stylegan.errors import ConfigError
from stylegan.seeding import stream

STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PicturesJob(Job):
    """Pictures of one size, and a file to make of them."""

    makes_run: ClassVar[bool] = False

    source: str = opt(
        None,
        "Folder, NVIDIA's .zip, or faces:seed=0,count=20000 (workers=2, cache=FOLDER).",
        argument=True,
        required=True,
    )
    target: Path = opt(None, "File to write.", argument=True, required=True)
    size: int = opt(128, "Height of the pictures.", min=4)
    width: int | None = opt(None, "Their width; by default they are square.", min=4)

    def open(self) -> PictureSource:
        """Open the pictures; raise ConfigError if the file to write exists."""
        if self.target.exists():
            raise ConfigError(f"{self.target} exists; remove it or name another file")
        return open_source(self.source, (self.size, self.width or self.size))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetJob(PicturesJob):
    """Pack pictures into NVIDIA's .zip with its dataset.json, cut to the centre and resized."""


def run_dataset(job: DatasetJob, run: Run | None) -> dict[str, Any]:
    """Write the archive."""
    source = job.open()
    with tqdm(total=len(source), desc="pack", dynamic_ncols=True) as bar:
        write_dataset(job.target, source, on_progress=bar.update)
    return {"written": str(job.target), "pictures": len(source), "c_dim": source.c_dim}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentJob(PicturesJob):
    """Show what a discriminator sees of a few pictures as the augmentation grows stronger."""

    transforms: str = opt("bgc", "Set of transforms.", choices=tuple(PRESETS))
    count: int = opt(8, "Pictures.", min=1)


def run_augment(job: AugmentJob, run: Run | None) -> dict[str, Any]:
    """Write a sheet: a row for each strength, a column for each picture."""
    source = job.open()
    pixels = source.batch(torch.arange(job.count) % len(source))
    augment = Augment(job.transforms)
    rows = []
    for augment.p in STRENGTHS:
        changed = augment(pixels / 127.5 - 1, stream(job.seed, f"prior/augment/{augment.p}"))
        rows.append(list(to_uint8(changed)))
    titles = [f"p = {p}" for p in STRENGTHS]
    write_image(job.target, sheets.grid(rows, row_titles=titles, cell=64))
    return {"written": str(job.target), "transforms": job.transforms}
