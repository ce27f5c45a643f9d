"""`faces render`: the synthetic faces, as a folder of pairs."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from fewshot_smis.faces import render_folder
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderJob(Job):
    """Render synthetic faces: pictures, label maps in the 19 CelebAMask-HQ ids, 68 landmarks."""

    makes_run: ClassVar[bool] = False

    folder: Path = opt(None, "Folder to make.", argument=True, required=True)
    count: int = opt(100, "Number of portraits.", min=1)
    size: int = opt(128, "Side of the pictures.", min=16, max=512)
    workers: int = opt(1, "Processes; the pictures do not depend on their number.", min=1)


def run_render(job: RenderJob, run: Run | None) -> dict[str, Any]:
    """Write images/, labels/, classes.json, landmarks.json and attributes.json."""
    with tqdm(total=job.count, desc="render", dynamic_ncols=True) as bar:
        render_folder(
            job.folder,
            job.count,
            job.size,
            job.seed,
            workers=job.workers,
            on_progress=bar.update,
        )
    return {"rendered": job.count, "folder": str(job.folder)}
