"""`doctor`: which operators run here, and why."""

import dataclasses
from typing import Any, ClassVar

from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run
from stylegan.ops import diagnose, rebuild


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorJob(Job):
    """Say which operators run on this machine, what compiles them, and why a backend is off."""

    makes_run: ClassVar[bool] = False

    rebuild: bool = opt(False, "Compile the kernels anew, after a failure or a new compiler.")


def run_doctor(job: DoctorJob, run: Run | None) -> dict[str, Any]:
    """Return the facts, a line each."""
    if job.rebuild:
        rebuild()
    return dict(diagnose())
