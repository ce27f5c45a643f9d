"""`report`: carry out the cells that are missing, then write tables and figures of all."""

import itertools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch
from tqdm import tqdm

from fewshot_smis.faces import render_folder
from fewshot_smis.jobs.report.cells import carry_out_cell
from fewshot_smis.jobs.report.figures import write_figures
from fewshot_smis.jobs.report.plan import SHOTS, Cell, ReportJob, waves
from fewshot_smis.jobs.report.study import pack_folder
from fewshot_smis.jobs.report.tables import read_cells, select, write_tables
from fewshot_smis.runs import Run
from stylegan.errors import ConfigError
from stylegan.memory import keep_freed_memory
from stylegan.seeding import stream_seed

__all__ = ["ReportJob", "run_report"]

OVERHEAD = 10  # seconds that judging a cell takes, or starting a process
SHARE = 0.85  # of the time that is planned with; the rest is for tables and figures


def run_report(job: ReportJob, run: Run | None) -> dict[str, Any]:
    """Fill the folder of cells as far as time allows, and write the pages."""
    started = time.monotonic()
    prepare(job)
    plan = waves(job)
    todo = [[cell for cell in wave if not done(job, cell)] for wave in plan]
    seconds, deadline = job.seconds, None
    if job.budget_seconds is not None:
        left = job.budget_seconds * SHARE - (time.monotonic() - started)
        seconds = max(1.0, left * job.workers / max(sum(map(len, todo)), 1) - OVERHEAD)
        deadline = time.monotonic() + left - seconds
    carry_out_all(job, todo, seconds, deadline)
    records = read_cells(job.folder, [cell for wave in plan for cell in wave])
    inversions = select(records, method="inversion")
    records = [record for record in records if record not in inversions]
    if not records:
        raise ConfigError(f"--budget-seconds {job.budget_seconds}: no cell was finished; give more")
    job.docs.mkdir(parents=True, exist_ok=True)
    write_tables(job, records, inversions, write_figures(job, records))
    total = sum(cell.method != "inversion" for wave in plan for cell in wave)
    return {"cells": f"{len(records)} of {total}", "written": str(job.docs)}


def done(job: ReportJob, cell: Cell) -> bool:
    """Tell whether a cell was carried out."""
    return (job.folder / "cells" / cell.name / "result.json").is_file()


def prepare(job: ReportJob) -> None:
    """Render the pictures, unless they are there, and pack them for quick reading."""
    job.folder.mkdir(parents=True, exist_ok=True)
    for name, count, shots in (("renders", job.pictures, max(SHOTS)), ("held", job.held, 0)):
        folder = job.folder / name
        if not folder.exists():
            seed = stream_seed(job.seed, f"report/{name}") % 2**31
            with tqdm(total=count, desc=f"render {name}") as bar:
                render_folder(folder, count, seed=seed, workers=job.workers, on_progress=bar.update)
        if not (job.folder / f"{name}.safetensors").is_file():
            pack_folder(folder, job.folder / f"{name}.safetensors", count, shots=shots)


def carry_out_all(
    job: ReportJob, todo: list[list[Cell]], seconds: float, deadline: float | None
) -> None:
    """Carry out cells, in order or several side by side; none is started after the deadline."""
    with tqdm(total=sum(map(len, todo)), desc="cells") as bar:
        if job.workers == 1:
            for cell in itertools.chain(*todo):
                timely(job, cell, seconds, deadline)
                bar.update()
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(job.workers, mp_context=spawn, initializer=prepare_worker) as pool:
            for wave in todo:
                futures = [pool.submit(timely, job, cell, seconds, deadline) for cell in wave]
                for future in as_completed(futures):
                    future.result()
                    bar.update()


def prepare_worker() -> None:
    """Make a process one of several that compute side by side."""
    keep_freed_memory()
    torch.set_num_threads(1)


def timely(job: ReportJob, cell: Cell, seconds: float, deadline: float | None) -> None:
    """Carry out a cell, unless it is too late."""
    if deadline is None or time.monotonic() < deadline:
        carry_out_cell(job, cell, seconds)
