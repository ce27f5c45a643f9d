"""`refine`: drawn maps, rough ones too -> pictures that fit them better."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_smis.codes import save_codes
from fewshot_smis.data import Classes, sheets
from fewshot_smis.data.images import write_image
from fewshot_smis.data.labels import colorize, resize_label
from fewshot_smis.data.pairs import load_label_maps
from fewshot_smis.encoding import encode
from fewshot_smis.jobs.base import (
    counter,
    demo_model,
    labeler_of,
    pick_device,
    prior_of,
    record_prior,
)
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.jobs.prior_figures import draw
from fewshot_smis.jobs.synthesize import read_codes
from fewshot_smis.jobs.train import open_model
from fewshot_smis.labelers import Labeler, load_labeler
from fewshot_smis.refinement import ALL, FEW, Freedom, RefinementReport, freedom_of, refine
from fewshot_smis.runs import Run
from stylegan.errors import DataError
from stylegan.seeding import stream

FREEDOMS = {"few": FEW, "all": ALL}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineJob(Job):
    """Draw maps more exactly: optimise their codes against what the drawn classes look like."""

    run: Path | None = opt(None, "Run of `train`; by default the embedded faces model.")
    labels: Path = opt(None, "Label map, or folder of label maps or pairs.", required=True)
    labeler: Path | None = opt(None, "Run of `label`; by default the one trained with.")
    codes: Path | None = opt(
        None, "Start from these codes, one a map or one for all, instead of the encoder's."
    )
    prior: Path | None = opt(None, "Generator file; by default the one trained with.")
    freedom: str = opt(
        "auto",
        "few: all layers move together along eight principal components; all: each by itself along "
        "all; auto is few for sparse maps, all for dense ones.",
        choices=("auto", *FREEDOMS),
    )
    components: int | None = opt(None, "Principal components of w that may change.", min=1)
    layers: str | None = opt(None, "Layers that may change, as 0-7; by default those of layout.")
    steps: int | None = opt(None, "Optimiser steps; by default 201 of few, 40 of all.", min=1)
    lr: float | None = opt(None, "Learning rate; by default 0.05 of few, 0.1 of all.", min=0)
    pull: float | None = opt(
        None, "Pull of codes towards the mean w; by default 0 of few, 0.2 of all.", min=0
    )
    batch: int = opt(8, "Maps optimised at once.", min=1)

    def resolve(self, labeler: Labeler) -> Freedom:
        """Return how codes move for maps of that labeler."""
        given = {name: getattr(self, name) for name in ("components", "steps", "lr", "pull")}
        chosen = freedom_of(labeler) if self.freedom == "auto" else FREEDOMS[self.freedom]
        return chosen._replace(**{key: v for key, v in given.items() if v is not None})


def run_refine(job: RefineJob, run: Run) -> dict[str, Any]:
    """Write the pictures, their codes, and a sheet: map, before, after."""
    device = pick_device(job.device)
    source = demo_model() if job.run is None else job.run
    encoder, prior = open_model(source, job.prior, device)
    classes = Classes.load(source / "classes.json")
    file = labeler_of(source, job.labeler)
    labeler = load_labeler(file, device)
    maps = load_label_maps(job.labels, classes)
    run.save_inputs(
        {"model": source / "encoder.safetensors", "labels": job.labels, "labeler": file}
    )
    record_prior(run, prior_of(source, job.prior))
    names, labels = [name for name, _ in maps], [label.to(device) for _, label in maps]
    if job.codes is None:
        ws = torch.cat([encode(label[None], encoder) for label in labels])
    else:
        ws = one_each(read_codes(job.codes, prior), len(labels), job.codes)
    freedom = job.resolve(labeler)
    with counter(freedom.steps * -(-len(ws) // job.batch), "refine") as tick:

        def on_report(report: RefinementReport) -> None:
            tick()
            if report.step % 20 == 1:
                run.report({"step": report.step, "loss": report.loss.tolist()})

        found = refine(
            labels,
            ws,
            labeler,
            prior,
            gen=stream(job.seed, "refine/components", device),
            freedom=freedom,
            layers=job.layers,
            batch=job.batch,
            on_report=on_report,
        )
    before, after = draw(ws, prior, job.batch), draw(found.ws, prior, job.batch)
    (run.path / "images").mkdir()
    for name, picture in zip(names, after, strict=True):
        write_image(run.path / "images" / f"{name}.png", picture)
    save_codes(run.path / "codes.safetensors", found.ws.cpu(), names)
    shown = [resize_label(x[None].cpu(), max(prior.img_resolution, 128))[0] for x in labels]
    rows = [
        [colorize(x, classes), *pictures] for x, *pictures in zip(shown, before, after, strict=True)
    ]
    titles = ["map", "encoded", "refined"]
    write_image(run.path / "sheet.png", sheets.grid(rows, row_titles=names, col_titles=titles))
    return {
        "maps": len(names),
        "loss_before": round(float(found.before.mean()), 4),
        "loss_after": round(float(found.after.mean()), 4),
    }


def one_each(ws: Tensor, num: int, path: Path) -> Tensor:
    """Return `num` codes: `ws` as they are, or one code for all.

    Raises:
        DataError: There are neither as many nor one.
    """
    if len(ws) not in (1, num):
        raise DataError(f"{path}: {len(ws)} codes for {num} maps; give one each, or one for all")
    return ws.expand(num, -1, -1).contiguous()
