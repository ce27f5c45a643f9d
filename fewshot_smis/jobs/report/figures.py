"""The figures of the report, put together from what its cells have drawn."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewshot_smis.baselines.methods import load_method
from fewshot_smis.baselines.oasis import LEVELS, Oasis
from fewshot_smis.codes import load_codes
from fewshot_smis.data import one_hot, sheets
from fewshot_smis.data.images import UInt8, resize_image, to_uint8, write_image
from fewshot_smis.data.labels import colorize, resize_label
from fewshot_smis.jobs.base import open_prior, pick_device
from fewshot_smis.jobs.report.plan import (
    BASELINES,
    FEW_SHOT,
    PATCHES,
    WEIGHTS,
    Cell,
    ReportJob,
    inversion,
)
from fewshot_smis.jobs.report.study import KINDS, SHOWN
from fewshot_smis.jobs.report.tables import TITLES, Record, select
from fewshot_smis.labelers import fit_labeler
from fewshot_smis.labelers.prototypes import marks
from stylegan.files import read_tensors
from stylegan.seeding import sample_z, stream

SIDE = 96  # px of the pictures on a sheet
ACROSS = 6  # styles of a row
TOPK = (1, 3, 10)
THRESHOLDS = (0.5, 0.7, 0.9)
Row = list[UInt8]
CAPTIONS = {
    "dense-one-shot": "Held-out maps drawn by every system after one labelled picture.",
    "dense-five-shot": "The same after five labelled pictures.",
    "sparse-one-shot": "Held-out landmarks drawn by every system after one labelled picture.",
    "sparse-five-shot": "The same after five labelled pictures.",
    "styles": "Many pictures of each map, by ours after five labelled pictures.",
    "training": "Samples, their pseudo labels, and reconstructions as ours is trained.",
    "sparse-labels": "Sparse labels of a sample for several k and thresholds, and their shot.",
    "oasis-noise": "OASIS draws one map; its noise is drawn for the image, regions or pixels.",
    "oasis-perceptual": "OASIS draws one map as the weight of the lite0 distance grows.",
    "patches": "pix2pix with discriminators of several patch sizes.",
}


class Figures:
    """Draws every figure whose cells are there."""

    def __init__(self, job: ReportJob, records: list[Record]) -> None:
        self.job, self.records = job, records
        self.held = read_tensors(job.folder / "held.safetensors")[0]
        self.written: list[str] = []

    def cell(self, cell: Cell) -> Path:
        """Return the folder of a cell."""
        return self.job.folder / "cells" / cell.name

    def shown(self, cell: Cell) -> Tensor | None:
        """Return what a cell has drawn, [SHOWN,S,3,H,W] in [-1,1], None if it was not carried out.

        Pictures are brought to the size they have on a sheet.
        """
        file = self.cell(cell) / "shown.safetensors"
        if not file.is_file():
            return None
        pictures = load_file(file)["shown"].float() / 127.5 - 1
        small = resize_image(pictures.flatten(0, 1), SIDE)
        return small.view(*pictures.shape[:2], *small.shape[1:])

    def maps(self, kind: str) -> Row:
        """Return the shown held-out maps in colours."""
        label = resize_label(self.held[kind][:SHOWN].long(), SIDE)
        return list(colorize(label, KINDS[kind]))

    def pictures(self) -> Row:
        """Return the rendered pictures of these maps."""
        img = self.held["img"][:SHOWN].float() / 127.5 - 1
        return list(to_uint8(resize_image(img, SIDE)))

    def save(self, name: str, rows: list[Row], titles: list[str], heads: list[str]) -> None:
        """Write a sheet, unless there is nothing to show."""
        if rows:
            sheet = sheets.grid(rows, row_titles=titles, col_titles=heads, cell=SIDE)
            write_image(self.job.docs / f"{name}.png", sheet)
            self.written.append(name)

    def systems(self, kind: str, shots: int) -> None:
        """Show every system on the same maps: a column a map, a row a system."""
        rows, titles = [self.maps(kind), self.pictures()], ["map", "picture"]
        for method in (*FEW_SHOT, *BASELINES):
            drawn = self.shown(Cell(method, kind, shots))
            if drawn is not None:
                rows.append(list(to_uint8(drawn[:, 0])))
                titles.append(TITLES[method].replace("**", "").replace(", ", ",\n"))
        if len(rows) > 2:
            count = {1: "one", 5: "five"}[shots]
            self.save(f"{kind}-{count}-shot", rows, titles, [""] * SHOWN)

    def styles(self) -> None:
        """Show many pictures of each map, by the five-shot default."""
        drawn = self.shown(Cell("default", "dense", 5))
        if drawn is not None:
            columns = min(ACROSS, drawn.shape[1])
            rows = [
                [m, *to_uint8(d[:columns])] for m, d in zip(self.maps("dense"), drawn, strict=True)
            ]
            heads = ["map", *(f"style {k}" for k in range(columns))]
            self.save("styles", rows, [""] * SHOWN, heads)

    def noise_levels(self) -> None:
        """Show what OASIS draws of one map as its noise is drawn for ever smaller parts."""
        file = self.cell(Cell("oasis")) / "model.safetensors"
        if not file.is_file():
            return
        method = load_method(file).method
        if not isinstance(method, Oasis):
            return
        label = self.held["dense"][:1].long().expand(ACROSS, -1, -1)
        onehot = one_hot(label, method.config.num_classes)
        rows = []
        for level in LEVELS:
            gen = stream(self.job.seed, f"report/noise {level}")
            rows.append(list(to_uint8(resize_image(method.draw(onehot, gen, noise=level), SIDE))))
        self.save("oasis-noise", rows, [f"{level} noise" for level in LEVELS], [""] * ACROSS)

    def options(self, name: str, method: str, option: str, values: tuple[int, ...]) -> None:
        """Show pictures by cells of a method that differ in an option, the plain one first."""
        rows, titles = [], []
        for value in ("", *(f"{option}={value}" for value in values)):
            drawn = self.shown(Cell(method, options=value))
            done = select(self.records, method=method, shots=0, options=value)
            if drawn is None or not done:
                continue
            rows.append(list(to_uint8(drawn[0, :ACROSS] if method == "oasis" else drawn[:, 0])))
            facts = f"mIoU {done[0]['miou']:.3f}\nFrechet {done[0]['frechet_lite0']:.1f}"
            facts += f"\ndiversity {done[0]['diversity_lite0']:.3f}" if method == "oasis" else ""
            titles.append(f"{value or f'default {option}'}\n{facts}")
        if len(rows) > 1:
            self.save(name, rows, titles, [""] * max(map(len, rows)))

    def progress(self) -> None:
        """Show samples, their labels, and the encoder's reconstructions as training goes on."""
        file = self.cell(Cell("default", "dense", 5)) / "progress.safetensors"
        if not file.is_file():
            return
        found = load_file(file)
        rows = [list(found["sample"].numpy()), list(found["label"].numpy())]
        steps = sorted(int(key) for key in found if key.isdecimal())
        rows += [list(found[str(step)].numpy()) for step in steps]
        titles = ["sample", "pseudo label", *(f"step {step}" for step in steps)]
        self.save("training", rows, titles, [""] * len(rows[0]))

    @torch.no_grad()
    def sparse_labels(self) -> None:
        """Show the sparse labels of one sample for several k (rows) and thresholds (columns)."""
        device = pick_device(self.job.device)
        prior = open_prior(None, device)
        ws = load_codes(self.cell(inversion(0)) / "codes.safetensors", prior)[1][:1].to(device)
        renders = read_tensors(self.job.folder / "renders.safetensors")[0]
        label = renders["sparse"][:1].long()
        z = sample_z(1, prior.z_dim, stream(self.job.seed, "report/sparse")).to(device)
        side = renders["img"].shape[2]
        rows: list[Row] = []
        for topk in TOPK:
            rows.append([])
            for threshold in THRESHOLDS:
                labeler = fit_labeler(
                    prior, ws, label, KINDS["sparse"], topk=topk, threshold=threshold
                )
                out = prior.synthesis(prior.mapping(z), feature_resolutions=labeler.resolutions)
                found = labeler(out.feats).cpu()
                picture = sheets.magnify(to_uint8(out.img)[0], 2 * side)
                claimed = marks(found[0], labeler.num_classes, (side, side))
                rows[-1].append(sheets.overlay(picture, claimed, KINDS["sparse"], alpha=1))
        shot = sheets.magnify(renders["img"][0].permute(1, 2, 0).numpy(), 2 * side)
        rows[0].append(sheets.overlay(shot, label[0], KINDS["sparse"], alpha=1))
        heads = [f"threshold {threshold}" for threshold in THRESHOLDS]
        self.save("sparse-labels", rows, [f"k = {k}" for k in TOPK], [*heads, "the shot"])


def write_figures(job: ReportJob, records: list[Record]) -> dict[str, str]:
    """Write every figure that the cells carried out so far allow; return captions by name."""
    figures = Figures(job, records)
    for kind in KINDS:
        for shots in (1, 5):
            figures.systems(kind, shots)
    figures.styles()
    figures.progress()
    figures.noise_levels()
    figures.options("oasis-perceptual", "oasis", "perceptual_weight", WEIGHTS)
    figures.options("patches", "pix2pix", "patch", PATCHES)
    figures.sparse_labels()
    return {name: CAPTIONS[name] for name in figures.written}
