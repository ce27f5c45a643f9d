"""`prior info` and `prior convert`."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from fewshot_smis.jobs.base import demo_prior
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run
from stylegan import convert, describe
from stylegan.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfoJob(Job):
    """Say what a file of weights holds: format, sizes, widths, architecture, parameters."""

    makes_run: ClassVar[bool] = False

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.", argument=True)


def run_info(job: InfoJob, run: Run | None) -> dict[str, Any]:
    """Return the facts of the file."""
    return describe(job.prior or demo_prior())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertJob(Job):
    """Write a generator in another format; nothing of the original is changed."""

    makes_run: ClassVar[bool] = False

    source: Path = opt(None, "Generator file.", argument=True, required=True)
    target: Path = opt(None, "File to write.", argument=True, required=True)
    to: str = opt("safetensors", "Format.", choices=("safetensors", "rosinality", "nvidia-state"))
    label: int | None = opt(
        None,
        "Class to keep of a conditional generator: labelling and training take no classes.",
        min=0,
    )


def run_convert(job: ConvertJob, run: Run | None) -> dict[str, Any]:
    """Write the file and return the facts of it."""
    if job.target.exists():
        raise ConfigError(f"{job.target} exists; remove it or name another file")
    convert(job.source, job.target, to=job.to, label=job.label)
    return {"written": str(job.target), "format": job.to}
