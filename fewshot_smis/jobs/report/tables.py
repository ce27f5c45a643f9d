"""The cells of the report as tables: means and standard deviations over the repeats."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fewshot_smis.data import Classes
from fewshot_smis.data.files import read_json, write_bytes, write_json
from fewshot_smis.jobs.report.plan import BASELINES, FEW_SHOT, SHOTS, Cell, ReportJob
from fewshot_smis.jobs.report.study import POOL

TITLES = {
    "paper": "prototypes, the paper's training",
    "prototypes": "prototypes, our training",
    "default": "**ours** (our labels, our training)",
    "refined": "**ours, refined** (the same, then `refine`)",
    "pix2pix": "pix2pix",
    "pix2pixhd": "pix2pixHD",
    "spade": "SPADE",
    "oasis": "OASIS",
    "judge": "encoder, labels by the judge",
    "average": "the generator's average face, whatever the map",
}
MEASURES = {
    "miou": "mIoU ↑",
    "accuracy": "pixel accuracy ↑",
    "class_accuracy": "class accuracy ↑",
    "frechet_lite0": "Frechet lite0 ↓",
    "diversity_ms_ssim": "MS-SSIM ↓",
    "diversity_lite0": "lite0 ↑",
    "pseudo_miou": "mIoU of pseudo labels ↑",
}
Record = dict[str, Any]


class Spread(NamedTuple):
    """A measure over the repeats; `sd` is None for a single one."""

    mean: float
    sd: float | None
    repeats: int

    def __str__(self) -> str:
        """Write the mean, and the deviation behind ±."""
        digits = 3 if abs(self.mean) < 10 else 1
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


def spread(values: Iterable[float]) -> Spread:
    """Return mean, standard deviation (of a sample) and number of `values`."""
    found = list(values)
    sd = statistics.stdev(found) if len(found) > 1 else None
    return Spread(statistics.mean(found), sd, len(found))


def read_cells(folder: Path, plan: list[Cell]) -> list[Record]:
    """Return the results of those cells of `plan` that are done."""
    files = (folder / "cells" / cell.name / "result.json" for cell in plan)
    return [read_json(file) for file in files if file.is_file()]


def select(records: list[Record], **wanted: Any) -> list[Record]:
    """Return the records that have these values."""
    return [r for r in records if all(r[key] == value for key, value in wanted.items())]


def table(records: list[Record], methods: Iterable[str], **wanted: Any) -> list[str]:
    """Lay out one row a method as Markdown; methods without a cell are left out."""
    head = ["system", "repeats", *MEASURES.values(), "steps", "samples"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for method in methods:
        rows = select(records, method=method, **wanted)
        if not rows:
            continue
        shown = [TITLES[method], str(len(rows))]
        for key in MEASURES:
            values = [row[key] for row in rows if key in row]
            shown.append(str(spread(values)) if values else "-")
        shown += [str(round(statistics.median(row[key] for row in rows))) for key in STEPS]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


STEPS = ("steps", "samples")


def class_table(records: list[Record], methods: Iterable[str], **wanted: Any) -> list[str]:
    """Lay out the mean IoU of each class as Markdown: one row a class, one column a method."""
    found = {method: select(records, method=method, **wanted) for method in methods}
    kept = {method: [r["class_iou"] for r in rows] for method, rows in found.items() if rows}
    titles = [TITLES[method].partition(" (")[0].replace("*", "") for method in kept]
    lines = [f"| IoU of | {' | '.join(titles)} |", "|---" * (len(kept) + 1) + "|"]
    for i, name in enumerate(Classes.CELEBAMASK.names):
        seen = ([row[i] for row in rows if row[i] is not None] for rows in kept.values())
        means = (f"{statistics.mean(values):.2f}" if values else "-" for values in seen)
        lines.append(f"| {name} | {' | '.join(means)} |")
    return lines


def verdict(records: list[Record], kind: str, shots: int) -> list[str]:
    """Say how ours compares with the best baseline, in mIoU and in distance."""
    lines = []
    for key, better, name in (("miou", max, "mIoU"), ("frechet_lite0", min, "Frechet distance")):
        means = {
            method: spread(row[key] for row in rows)
            for method in (*FEW_SHOT, *BASELINES)
            if (rows := select(records, method=method, kind=kind, shots=shots, options=""))
        }
        rivals = [method for method in BASELINES if method in means]
        if not rivals:
            continue
        best = better(rivals, key=lambda method: means[method].mean)
        rival, theirs = TITLES[best], means[best]
        for method, system in (("default", "ours"), ("refined", "ours, refined,")):
            if method not in means:
                continue
            ours = means[method]
            wins = better(ours.mean, theirs.mean) == ours.mean
            word = "better than" if wins else "**not better than**"
            lines.append(f"- {name}: {system} {ours}, {word} the best baseline, {rival} {theirs}.")
    return lines


def closed_gap(records: list[Record], shots: int) -> list[str]:
    """Say how much of the way from the paper's method to the judge's labels ours goes, in mIoU.

    Once from the whole of the paper's method, and once from its labels alone, under our training.
    """
    ours = select(records, method="default", kind="dense", shots=shots)
    top = select(records, method="judge")
    lines = []
    for method in ("paper", "prototypes"):
        base = select(records, method=method, kind="dense", shots=shots)
        if not (base and ours and top):
            continue
        low, mid, high = (spread(r["miou"] for r in rows) for rows in (base, ours, top))
        gap = high.mean - low.mean
        if gap > 0:
            lines.append(
                f"- Of the gap of {gap:.3f} in mIoU between {TITLES[method]}, {low}, and labels by "
                f"the judge under our training, {high}, ours, {mid}, close "
                f"{100 * (mid.mean - low.mean) / gap:.0f} %."
            )
    return lines


def supervised(records: list[Record]) -> list[str]:
    """Say how much each baseline gains in mIoU from all pictures over five of them."""
    lines = []
    for method in BASELINES:
        all_of_them = select(records, method=method, shots=0)
        five = select(records, method=method, kind="dense", shots=5)
        if all_of_them and five:
            many, few = (spread(r["miou"] for r in rows) for rows in (all_of_them, five))
            word = "more than" if many.mean > few.mean else "**not more than**"
            lines.append(f"- {TITLES[method]}: mIoU {many}, {word} with five pictures, {few}.")
    return lines


def write_tables(
    job: ReportJob, records: list[Record], inversions: list[Record], figures: dict[str, str]
) -> None:
    """Write results.md, with the figures of these captions, and results.json."""
    dense = [r for r in records if not r["options"]]
    lines = ["# What each system does with one, five and all labelled pictures", ""]
    lines += about(job, inversions, records)
    for kind in ("dense", "sparse"):
        for shots in SHOTS:
            if not select(dense, kind=kind, shots=shots):
                continue
            few = "one labelled picture" if shots == 1 else "five labelled pictures"
            maps = "dense maps" if kind == "dense" else "landmarks"
            lines += ["", f"## {few.capitalize()}, {maps}", ""]
            lines += table(dense, (*FEW_SHOT, *BASELINES), kind=kind, shots=shots)
            lines += ["", *verdict(dense, kind, shots)]
            if kind == "dense":
                lines += closed_gap(dense, shots)
                lines += ["", *class_table(dense, (*FEW_SHOT, *BASELINES), kind=kind, shots=shots)]
    lines += ["", f"## All {job.pictures} labelled pictures", ""]
    lines += table(dense, ("average", "judge", *BASELINES), shots=0)
    lines += ["", *supervised(dense)]
    for title, method, option in (
        ("OASIS as the weight of the lite0 distance grows", "oasis", "perceptual_weight"),
        ("pix2pix with other patches", "pix2pix", "patch"),
    ):
        lines += options_table(records, title, method, option)
    lines += ["", "## Figures"]
    for name, caption in figures.items():
        lines += ["", caption, "", f"![{caption}]({name}.png)"]
    write_bytes(job.docs / "results.md", ("\n".join(lines) + "\n").encode())
    write_json(job.docs / "results.json", {"inversions": inversions, "cells": records})


def options_table(records: list[Record], title: str, method: str, option: str) -> list[str]:
    """Lay out the cells of one method on all pictures that differ in `option`."""
    rows = [r for r in records if r["method"] == method and r["options"].startswith(option)]
    if not rows:
        return []
    plain = {"perceptual_weight": "0", "patch": "70"}[option]
    found = {plain: select(records, method=method, shots=0, options="")}
    found |= {row["options"].partition("=")[2]: [row] for row in rows}
    keys = [key for key in MEASURES if key != "pseudo_miou"]
    head = [option.replace("_", " "), *(MEASURES[key] for key in keys)]
    lines = ["", f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for value, cell in sorted(found.items(), key=lambda item: float(item[0])):
        if cell:
            lines.append(f"| {value} | {' | '.join(str(cell[0][key]) for key in keys)} |")
    return lines


def about(job: ReportJob, inversions: list[Record], trained: list[Record]) -> list[str]:
    """Say what was done, in full sentences."""
    form = "quick form" if job.quick else "full form"
    asked = sorted({r["budget_seconds"] for r in trained})
    budget = " or ".join(f"{seconds:.0f} s" for seconds in asked)
    times = [r["training_seconds"] for r in trained]
    devices = {r["device"] for r in trained}
    where = "of a processor core" if devices == {"cpu"} else f"on {' and '.join(sorted(devices))}"
    return [
        f"Written by `make report` ({form}). Rendered faces of 128 px with exact maps of the 19 "
        "classes of CelebAMask-HQ; each repeat has other shots, the same for every system: of "
        f"{POOL} pictures those that show most classes between them. "
        f"{job.held} held-out maps are drawn in one style each, and the judge (a segmenter that "
        "trains no few-shot system; docs/model-card.md says how good it is) looks for the exact "
        "classes in the pictures; the Frechet distance is taken to the held-out pictures in the "
        "lite0 space and compares within this page only. Diversity is over "
        f"{job.styles} pictures of each of four maps; ± is the standard deviation over repeats.",
        "",
        f"Every training had the same time, {budget} {where}; with the labeler and the timing of "
        f"the first steps it took {min(times):.0f} to {max(times):.0f} s. {about_codes(inversions)}"
        "Baselines follow their papers' recipes, with the lite0 distance where SPADE and "
        f"pix2pixHD have VGG's; they have {job.width} channels at full size and learn four "
        "pictures a step, one where one is all they have.",
    ]


def about_codes(inversions: list[Record]) -> str:
    """Say what few-shot systems need besides; nothing where none was trained."""
    if not inversions:
        return ""
    told = ("training_seconds", "l2", "lite0")
    mean = {key: statistics.mean(one[key] for one in inversions) for key in told}
    return (
        "Few-shot systems need besides the generator, which learned from pictures without maps, "
        f"and the codes of the shots: {inversions[0]['shots']} pictures in "
        f"{mean['training_seconds']:.0f} s ({inversions[0]['steps']} steps, L2 {mean['l2']:.4f}, "
        f"lite0 {mean['lite0']:.3f}). "
    )
