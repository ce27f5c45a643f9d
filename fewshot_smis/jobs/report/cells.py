"""One cell of the report: what it trains and how that is judged, kept in a folder of its own."""

import shutil
from typing import Any

import torch
from safetensors.torch import save

from fewshot_smis.codes import save_codes
from fewshot_smis.data.files import write_bytes
from fewshot_smis.inversion import invert
from fewshot_smis.jobs.base import demo_judge, open_prior, peak_memory, pick_device
from fewshot_smis.jobs.report.budget import clock_of
from fewshot_smis.jobs.report.plan import BASELINES, Cell, ReportJob
from fewshot_smis.jobs.report.study import Study, open_study
from fewshot_smis.jobs.report.systems import (
    Task,
    draw_average,
    refine_few_shot,
    train_few_shot,
    train_on_pairs,
)
from fewshot_smis.losses import l2
from fewshot_smis.runs import Run
from stylegan.seeding import stream

STEPS = 200  # of the inversion of the shots
TRAININGS = {
    **dict.fromkeys(BASELINES, train_on_pairs),
    "average": draw_average,
    "refined": refine_few_shot,
}


def carry_out_cell(job: ReportJob, cell: Cell, seconds: float) -> None:
    """Train a cell's system for `seconds` and judge it, unless its folder says that it is done."""
    path = job.folder / "cells" / cell.name
    if (path / "result.json").is_file():
        return
    shutil.rmtree(path, ignore_errors=True)  # of a report that was stopped
    run = Run.at(path, cell.name)
    run.save_config({**cell._asdict(), "seconds": seconds, "seed": job.seed})
    device = pick_device(job.device)
    study = open_study(job.folder, demo_judge(), device, job.styles)
    if cell.method == "inversion":
        run.finish({**cell._asdict(), **invert_shots(job, cell, study, run)})
        return
    train = TRAININGS.get(cell.method, train_few_shot)
    clock = clock_of(device)
    start = clock()
    trained = train(Task(job, cell, study, path, seconds))
    spent = round(clock() - start, 1)
    drawn = study.drawings(trained.paint, cell.kind)
    write_bytes(path / "shown.safetensors", save({"shown": drawn.shown}))
    facts = {**cell._asdict(), "budget_seconds": seconds, "training_seconds": spent}
    facts["device"] = device.type
    run.finish({**facts, **trained.facts, **drawn.scores, "peak_memory_gb": peak_memory()})


def invert_shots(job: ReportJob, cell: Cell, study: Study, run: Run) -> dict[str, Any]:
    """Find the codes of a repeat's shots."""
    prior = open_prior(None, study.device)
    rows = slice(cell.first, cell.first + cell.shots)
    img = study.pictures(rows)
    clock = clock_of(study.device)
    start = clock()
    gen = stream(job.seed, f"report/invert {cell.repeat}", study.device)
    found = invert(img, prior, gen=gen, perceptual=study.lite0, steps=STEPS)
    spent = round(clock() - start, 1)
    save_codes(run.path / "codes.safetensors", found.ws.cpu(), [str(i) for i in range(len(img))])
    with torch.no_grad():
        drawn = torch.cat([prior.synthesis(ws).img for ws in torch.split(found.ws, 8)]).clamp(-1, 1)
        scores = {"l2": l2(drawn, img), "lite0": study.lite0(drawn, img)}
    means = {name: round(float(value.mean()), 5) for name, value in scores.items()}
    return {"steps": found.steps, "training_seconds": spent, **means}
