"""`evaluate`: judge drawn pictures by their maps, by real pictures, and by each other."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_smis.data import Classes, resize_label, sheets
from fewshot_smis.data.files import write_json
from fewshot_smis.data.images import list_images, read_image, resize_image, to_tensor, write_image
from fewshot_smis.data.labels import colorize
from fewshot_smis.data.pairs import find_classes, load_label_maps
from fewshot_smis.jobs.base import demo_judge, pick_device, progress
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.losses import l2
from fewshot_smis.metrics.distribution import frechet_distance, kernel_distance
from fewshot_smis.metrics.diversity import ms_ssim, pairwise, pairwise_squares
from fewshot_smis.metrics.features import SPACES, load_space
from fewshot_smis.metrics.judge import Judge, load_judge
from fewshot_smis.metrics.segmentation import agreement, class_iou
from fewshot_smis.perceptual import (
    NAMES,
    Lite0Distance,
    PerceptualDistance,
    load_perceptual,
)
from fewshot_smis.runs import Run
from stylegan.errors import DataError
from stylegan.seeding import stream

SHOWN = 8  # rows of the sheet
LARGEST_BLOCK = 1000  # rows of the blocks of the kernel distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateJob(Job):
    """Judge drawn pictures: against label maps, real pictures, originals, and each other.

    Pictures are those of a run of `synthesize`, `baseline synthesize` or `invert`, or of a folder:
    NAME.png, or NAME-0.png, NAME-1.png ... for several pictures of one map, whose diversity is
    measured then.
    """

    pictures: Path = opt(None, "Run, or folder of pictures.", argument=True, required=True)
    labels: Path | None = opt(None, "Maps NAME.png that they should show, for the judge.")
    judge: Path | None = opt(
        None, "Model of `baseline train segmenter`; by default the embedded one, of faces."
    )
    real: Path | None = opt(None, "Real pictures, for the Frechet and kernel distance.")
    originals: Path | None = opt(None, "Pictures NAME.png that they should equal: L2, perceptual.")
    space: str = opt("lite0", "Feature space of the distances to real pictures.", choices=SPACES)
    space_weights: Path | None = opt(None, "Weights of the space; Inception has none by itself.")
    perceptual: str = opt("lite0", "Distance of two pictures.", choices=NAMES[:-1])
    perceptual_weights: Path | None = opt(None, "Weights of that distance; LPIPS needs them.")
    batch: int = opt(32, "Pictures at once.", min=1)


class Drawn:
    """The drawn pictures of a job, and what several measures need of them."""

    def __init__(self, job: EvaluateJob) -> None:
        self.job, self.device = job, pick_device(job.device)
        self.files = list_images(job.pictures)
        self.names = [file.stem for file in self.files]

    @cached_property
    def img(self) -> Tensor:
        """All pictures [N,3,H,W] in [-1,1], at the size of the first."""
        first = to_tensor(read_image(self.files[0]))
        return read_pictures(self.files, (first.shape[1], first.shape[2]))

    @cached_property
    def distance(self) -> PerceptualDistance:
        """The distance of two pictures."""
        found = load_perceptual(self.job.perceptual, self.job.perceptual_weights)
        return found.to(self.device) if isinstance(found, torch.nn.Module) else found

    def sources(self, known: list[str], what: Path) -> list[str]:
        """Return for each picture the one of `known` names that it was drawn of.

        Raises:
            DataError: A picture has none; `what` is named.
        """
        names = set(known)
        found = []
        for name in self.names:
            source = name if name in names else name.rpartition("-")[0]
            if source not in names:
                raise DataError(
                    f"{what}: holds no '{name}', nor what comes before its last '-'; give the "
                    "files that the pictures were drawn of"
                )
            found.append(source)
        return found


def read_pictures(files: list[Path], size: tuple[int, int]) -> Tensor:
    """Return pictures [N,3,H,W] in [-1,1] at `size`."""
    return torch.cat([resize_image(to_tensor(read_image(file))[None], size) for file in files])


def run_evaluate(job: EvaluateJob, run: Run) -> dict[str, Any]:
    """Write the figures, the confusion matrix and a sheet of what the judge sees."""
    drawn = Drawn(job)
    inputs = {"pictures": job.pictures, "labels": job.labels, "real": job.real}
    run.save_inputs({**inputs, "originals": job.originals})
    result: dict[str, Any] = {"pictures": len(drawn.files)}
    if job.labels is not None:
        result |= judged(drawn, job.labels, run)
    if job.real is not None:
        result |= distances(drawn, job.real)
    if job.originals is not None:
        result |= reconstruction(drawn, job.originals)
    result |= diversity(drawn)
    return result


def judged(drawn: Drawn, labels: Path, run: Run) -> dict[str, Any]:
    """Return what the judge finds of `labels` in the pictures; write confusion.json, judged.png."""
    job = drawn.job
    path = job.judge or demo_judge()
    judge = load_judge(path / "model.safetensors" if path.is_dir() else path, drawn.device)
    classes = judge_classes(judge, path, labels)
    maps = dict(load_label_maps(labels, classes))
    label = torch.cat([resize_label(m[None], judge.size) for m in maps.values()])
    rows = dict(zip(maps, label, strict=True))
    wanted = torch.stack([rows[name] for name in drawn.sources(list(maps), labels)])
    counts = torch.zeros(judge.num_classes, judge.num_classes, dtype=torch.long)
    parts = torch.split(torch.arange(len(wanted)), job.batch)
    for part in progress(parts, len(parts), "judge"):
        counts += judge.counts(drawn.img[part], wanted[part]).cpu()
    iou = class_iou(counts).tolist()
    by_class = {name: round(x, 4) for name, x in zip(classes.names, iou, strict=True) if x == x}
    write_json(run.path / "confusion.json", {"classes": classes.names, "counts": counts.tolist()})
    shown = drawn.img[:SHOWN]
    columns = (colorize(wanted[:SHOWN], classes), colorize(judge.labels(shown), classes))
    pictures = (shown.permute(0, 2, 3, 1) * 127.5 + 127.5).round().byte().numpy()
    sheet = sheets.grid(
        [list(row) for row in zip(columns[0], pictures, columns[1], strict=True)],
        col_titles=["map", "picture", "judge"],
    )
    write_image(run.path / "judged.png", sheet)
    scores = {key: round(value, 4) for key, value in agreement(counts)._asdict().items()}
    return {**scores, "iou": by_class}


def judge_classes(judge: Judge, path: Path, labels: Path) -> Classes:
    """Return the judge's classes: those of the maps, of the judge's run, or of the faces.

    Raises:
        DataError: They are not as many as the judge tells apart.
    """
    folder = labels if labels.is_dir() else labels.parent
    found = find_classes(folder) or find_classes(path if path.is_dir() else path.parent)
    classes = found or Classes.CELEBAMASK
    if classes.num_classes != judge.num_classes:
        raise DataError(
            f"{labels}: maps of {classes.num_classes} classes, but the judge tells "
            f"{judge.num_classes} apart; give one trained on pictures of this domain by --judge"
        )
    return classes


def distances(drawn: Drawn, real: Path) -> dict[str, float]:
    """Return the Frechet and kernel distance of the pictures to those in the folder `real`."""
    job = drawn.job
    space = load_space(job.space, job.space_weights, drawn.device)
    others = read_pictures(list_images(real), (drawn.img.shape[2], drawn.img.shape[3]))
    ours, theirs = (
        torch.cat([space(part.to(drawn.device)) for part in torch.split(img, job.batch)])
        for img in (drawn.img, others)
    )
    block = min(LARGEST_BLOCK, len(ours) // 2, len(theirs) // 2)
    found = {f"frechet_distance_{job.space}": round(frechet_distance(ours, theirs), 4)}
    if block >= 2:
        kernel = kernel_distance(ours, theirs, stream(job.seed, "evaluate/blocks"), block=block)
        found |= {f"kernel_distance_{job.space}": round(kernel.value, 6)}
        found |= {f"kernel_distance_{job.space}_standard_error": round(kernel.error, 6)}
    return found


def reconstruction(drawn: Drawn, originals: Path) -> dict[str, float]:
    """Return how far pictures are from the `originals` of the same names: squares, perceptual."""
    files = {file.stem: file for file in list_images(originals)}
    chosen = [files[name] for name in drawn.sources(list(files), originals)]
    target = read_pictures(chosen, (drawn.img.shape[2], drawn.img.shape[3]))
    square, perceptual = [], []
    for part in torch.split(torch.arange(len(target)), drawn.job.batch):
        pair = (drawn.img[part].to(drawn.device), target[part].to(drawn.device))
        square.append(l2(*pair))
        with torch.no_grad():
            perceptual.append(drawn.distance(*pair))
    return {
        "l2": round(float(torch.cat(square).mean()), 5),
        drawn.job.perceptual: round(float(torch.cat(perceptual).mean()), 5),
    }


@torch.no_grad()
def diversity(drawn: Drawn) -> dict[str, float]:
    """Return how different the pictures of one map are, where there are several of each."""
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(drawn.names):
        stem, dash, number = name.rpartition("-")
        if dash and number.isdecimal():
            groups.setdefault(stem, []).append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    if not several:
        return {}
    job, found = drawn.job, []
    for rows in progress(several, len(several), "diversity"):
        img = drawn.img[rows].to(drawn.device)
        distance = drawn.distance
        found.append(
            [
                pairwise(img, ms_ssim, batch=job.batch),
                pairwise_squares(distance.embed(img))
                if isinstance(distance, Lite0Distance)
                else pairwise(img, distance, batch=job.batch),
            ]
        )
    similarity, distance = torch.tensor(found).mean(dim=0).tolist()
    return {
        "pictures_a_map": round(sum(map(len, several)) / len(several), 2),
        "diversity_ms_ssim": round(similarity, 4),
        f"diversity_{job.perceptual}": round(distance, 4),
    }
