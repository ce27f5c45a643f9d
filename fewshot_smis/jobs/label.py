"""`label`: fit a labeler to the labelled pictures, and show what it says of samples."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from fewshot_smis.codes import load_codes
from fewshot_smis.data import Classes, sheets
from fewshot_smis.data.files import write_bytes
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.data.labels import colorize, resize_label
from fewshot_smis.data.pairs import Pairs, load_pairs
from fewshot_smis.jobs.base import counter, open_weights, pick_device, record_prior, run_file
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.labelers import (
    HeadSettings,
    Labeler,
    chosen_method,
    fit_labeler,
    label_samples,
    save_labeler,
)
from fewshot_smis.labelers.fit import METHODS
from fewshot_smis.runs import Run
from stylegan import Prior, prepare
from stylegan.errors import DataError
from stylegan.seeding import sample_z, stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelJob(Job):
    """Fit a labeler: linear heads on the generator's features, or prototypes of each class."""

    pairs: Path = opt(None, "Folder of images/ and labels/.", required=True)
    codes: Path | None = opt(
        None, "Run of `invert` or `prior sample`, or a file of codes; by default in --pairs."
    )
    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    kind: str = opt("auto", "Labeler.", choices=("auto", "dense", "sparse"))
    method: str = opt(
        "auto",
        "Linear heads (dense maps), columns of all sizes (sparse), or the paper's prototypes.",
        choices=METHODS,
    )
    views: int = opt(4, "Linear: extra views of each picture, in other styles and noise.", min=0)
    tuning: int = opt(
        30, "Linear: steps a picture by which a copy of the generator learns to draw them.", min=0
    )
    members: int = opt(1, "Linear: heads in the ensemble.", min=1)
    drop: float = opt(
        0.0,
        "Linear: share of samples, the most disputed, that training leaves out.",
        min=0,
        max=0.9,
    )
    topk: int = opt(3, "Sparse: pixels each prototype claims.", min=1)
    threshold: float = opt(0.5, "Sparse: least cosine of a claim.", min=-1, max=1)
    reference: bool = opt(False, "Label exactly as the paper's code, faults included.")
    limit: int | None = opt(None, "Use only the first so many pairs.", min=1)
    samples: int = opt(16, "Samples on the sheet.", min=1)


def run_label(job: LabelJob, run: Run) -> dict[str, Any]:
    """Write labeler.safetensors, and sheets of the shots and of labelled samples."""
    device = pick_device(job.device)
    weights = open_weights(job.prior, device)
    prior = prepare(weights)
    sparse = {"auto": None, "dense": False, "sparse": True}[job.kind]
    pairs = load_pairs(job.pairs, limit=job.limit, sparse=sparse)
    codes = run_file(job.codes or job.pairs, "codes.safetensors", "codes of the pictures")
    run.save_inputs({"pairs": job.pairs, "codes": codes})
    record_prior(run, job.prior)
    names, ws = load_codes(codes, prior)
    ws = codes_of([pair.name for pair in pairs.pairs], names, ws).to(device)
    labels = [pair.label.to(device) for pair in pairs.pairs]
    method = chosen_method(pairs.classes, kind=job.kind, method=job.method, one_size=job.reference)
    tunes = method == "linear" and job.tuning > 0
    images = pairs.images(prior.img_resolution).to(device) if tunes else None
    with counter(job.tuning * len(ws) if tunes else 0, "tune") as tick:
        labeler = fit_labeler(
            weights,
            ws,
            labels,
            pairs.classes,
            kind=job.kind,
            method=method,
            linear=HeadSettings(
                views=job.views, members=job.members, drop=job.drop, tuning=job.tuning
            ),
            images=images,
            seed=job.seed,
            reference=job.reference,
            topk=job.topk,
            threshold=job.threshold,
            on_report=tick,
        )
    save_labeler(labeler, run.path / "labeler.safetensors")
    pairs.classes.save(run.path / "classes.json")
    shots = {"ws": ws.cpu(), "labels": pairs.labels(prior.img_resolution)}
    write_bytes(run.path / "shots.safetensors", save(shots))
    write_image(run.path / "shots.png", shots_sheet(prior, labeler, pairs, ws))
    write_image(run.path / "sheet.png", samples_sheet(prior, labeler, job.samples, job.seed))
    return {
        "shots": len(pairs.pairs),
        "classes": pairs.classes.num_classes,
        "labeler": labeler.kind,
    }


def codes_of(wanted: list[str], names: list[str], ws: torch.Tensor) -> torch.Tensor:
    """Return the codes [N,L,D] of the wanted pictures, found by name.

    Raises:
        DataError: A picture has no code.
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"no code for {', '.join(missing)}; the codes are of {', '.join(names)}: "
            "run `fewshot-smis invert` on these pictures"
        )
    return torch.stack([ws[names.index(name)] for name in wanted])


@torch.no_grad()
def shots_sheet(prior: Prior, labeler: Labeler, pairs: Pairs, ws: torch.Tensor) -> Any:
    """Draw picture, given map, inverted picture and the labeler's map of each shot."""
    size = prior.img_resolution
    out = prior.synthesis(ws, feature_resolutions=labeler.resolutions)
    drawn = to_uint8(out.img)
    found = labeler(out.feats).cpu()
    images = to_uint8(pairs.images(size))
    rows = []
    for i, pair in enumerate(pairs.pairs):
        shown = resize_label(pair.label[None], max(size, 128))[0]
        given, ours = (colorize(x, pairs.classes) for x in (shown, found[i]))
        rows.append([images[i], given, drawn[i], ours])
    return sheets.grid(rows, col_titles=["picture", "its map", "inverted", "labeler"])


@torch.no_grad()
def samples_sheet(prior: Prior, labeler: Labeler, count: int, seed: int) -> Any:
    """Draw samples of the prior above their pseudo labels, eight a row."""
    device = next(prior.parameters()).device
    classes: Classes = labeler.classes
    ws = prior.mapping(sample_z(count, prior.z_dim, stream(seed, "label/sheet")).to(device))
    images = to_uint8(prior.synthesis(ws).img)
    labels = label_samples(labeler, prior, ws).cpu()
    maps = [colorize(label, classes) for label in labels]
    rows = []
    for i in range(0, count, 8):
        rows += [list(images[i : i + 8]), maps[i : i + 8]]
    return sheets.grid(rows, row_titles=["sample", "label"] * (len(rows) // 2))
