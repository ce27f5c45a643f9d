"""`synthesize`: label maps -> pictures, many styles each."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_smis.codes import load_codes, save_codes
from fewshot_smis.data import Classes, sheets
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.data.labels import colorize, resize_label
from fewshot_smis.data.pairs import load_label_maps
from fewshot_smis.encoding import encode
from fewshot_smis.jobs.base import (
    counter,
    demo_model,
    labeler_of,
    pick_device,
    prior_of,
    progress,
    record_prior,
    run_file,
)
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.jobs.train import open_model
from fewshot_smis.labelers import load_labeler
from fewshot_smis.refinement import freedom_of, refine
from fewshot_smis.runs import Run
from fewshot_smis.synthesis import sample_styles, synthesize
from stylegan import Prior
from stylegan.seeding import stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizeJob(Job):
    """Turn label maps into pictures, several styles each."""

    run: Path | None = opt(None, "Run of `train`; by default the embedded faces model.")
    labels: Path = opt(None, "Label map, or folder of label maps or pairs.", required=True)
    prior: Path | None = opt(None, "Generator file; by default the one trained with.")
    styles: int = opt(4, "Random styles a map.", min=1)
    layers: str | None = opt(None, "Layers that take the style, as 8-13; by default the fine half.")
    alpha: float = opt(1.0, "Strength of the style, 0 to 1.", min=0, max=1)
    style: Path | None = opt(None, "Take styles from these codes (a run of `invert`) instead.")
    psi: float = opt(1.0, "Truncation of random styles.")
    refine: bool = opt(
        False, "Make each picture follow its map more closely, as `refine` does; seconds a map."
    )
    labeler: Path | None = opt(None, "To refine: run of `label`; by default the one trained with.")
    batch: int = opt(8, "Maps drawn at once.", min=1)


def run_synthesize(job: SynthesizeJob, run: Run) -> dict[str, Any]:
    """Write one picture a map and style, the codes, and a sheet."""
    device = pick_device(job.device)
    source = demo_model() if job.run is None else job.run
    encoder, prior = open_model(source, job.prior, device)
    classes = Classes.load(source / "classes.json")
    maps = load_label_maps(job.labels, classes)
    inputs = {"model": source / "encoder.safetensors", "labels": job.labels}
    file = labeler_of(source, job.labeler) if job.refine else None
    run.save_inputs({**inputs, "labeler": file})
    record_prior(run, prior_of(source, job.prior))
    layouts = torch.cat([encode(label[None].to(device), encoder) for _, label in maps])
    if file is not None:
        layouts = refined([label for _, label in maps], layouts, file, prior, job)
    gen = stream(job.seed, "synthesize/styles")
    if job.style is None:
        ws_style = sample_styles(job.styles, prior, gen, truncation_psi=job.psi)
    else:
        ws_style = read_codes(job.style, prior)
    (run.path / "images").mkdir()
    rows, names, codes = [], [], []
    for (name, label), layout in progress(zip(maps, layouts, strict=True), len(maps), "synthesize"):
        out = synthesize(
            label[None].to(device),
            encoder,
            prior,
            ws_layout=layout[None],
            ws_style=ws_style,
            layers=job.layers,
            alpha=job.alpha,
            batch=job.batch,
        )
        pictures = to_uint8(out.img[0])
        for k, picture in enumerate(pictures):
            write_image(run.path / "images" / f"{name}-{k}.png", picture)
            names.append(f"{name}-{k}")
        codes.append(out.ws[0].cpu())
        shown = resize_label(label[None], max(prior.img_resolution, 128))[0]
        rows.append([colorize(shown, classes), *pictures])
    save_codes(run.path / "codes.safetensors", torch.cat(codes), names)
    titles = ["map"] + [f"style {k}" for k in range(len(ws_style))]
    write_image(run.path / "sheet.png", sheets.grid(rows, col_titles=titles))
    return {"maps": len(maps), "pictures": len(names)}


def refined(
    labels: list[Tensor], ws: Tensor, file: Path, prior: Prior, job: SynthesizeJob
) -> Tensor:
    """Return the codes [N,L,D] of maps after `refine`, by the labeler in `file`."""
    labeler = load_labeler(file, ws.device)
    steps = freedom_of(labeler).steps * -(-len(ws) // job.batch)
    gen = stream(job.seed, "refine/components", ws.device)
    with counter(steps, "refine") as tick:
        return refine(labels, ws, labeler, prior, gen=gen, batch=job.batch, on_report=tick).ws


def read_codes(path: Path, prior: Prior) -> Tensor:
    """Read the codes [N,L,D] of a file or run directory, on the prior's device."""
    file = run_file(path, "codes.safetensors", "codes")
    return load_codes(file, prior)[1].to(prior.mapping.w_avg.device)
