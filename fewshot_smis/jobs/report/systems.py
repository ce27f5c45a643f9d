"""The systems of the report, each trained within a time on what a cell gives it."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from encoders import MaskEncoder, load_encoder, save_encoder
from fewshot_smis.baselines.batch import Method
from fewshot_smis.baselines.fit import FitReport, train_baseline
from fewshot_smis.baselines.methods import FAMILIES, build, fitting, save_method
from fewshot_smis.codes import load_codes
from fewshot_smis.data.files import read_json, write_bytes
from fewshot_smis.data.images import UInt8
from fewshot_smis.encoding import encode
from fewshot_smis.jobs.base import open_prior, open_weights
from fewshot_smis.jobs.baseline import draw, of_width, parse_options
from fewshot_smis.jobs.report.budget import TRIAL_STEPS, Clock, clock_of, steps_within, timed
from fewshot_smis.jobs.report.plan import Cell, ReportJob, inversion
from fewshot_smis.jobs.report.study import KINDS, Painter, Study
from fewshot_smis.jobs.train import TrainEncoderJob, new_encoder, progress_rows
from fewshot_smis.labelers import (
    Labeler,
    chosen_method,
    fit_labeler,
    label_samples,
    load_labeler,
    save_labeler,
)
from fewshot_smis.metrics.segmentation import agreement, confusion
from fewshot_smis.perceptual import load_perceptual
from fewshot_smis.refinement import refine
from fewshot_smis.synthesis import mix_styles, sample_styles, synthesize
from fewshot_smis.training import Shots, TrainReport, train_encoder
from stylegan import Prior, prepare
from stylegan.seeding import sample_z, stream

BATCH = 4  # pictures a step of the baselines, where they have as many
SAMPLES = 128  # of the prior, whose pseudo labels are judged
JUDGED_SHOTS = 5  # samples whose labels by the judge teach the upper bound's labeler
JUDGED_SAMPLES = 512  # samples whose labels by the judge teach the upper bound's encoder
STAGES = 4  # pictures of a training's progress


class Trained(NamedTuple):
    """A system that draws, and what is to be said of its training."""

    paint: Painter
    facts: dict[str, Any]


class Task(NamedTuple):
    """What a system is trained for."""

    job: ReportJob
    cell: Cell
    study: Study
    folder: Path  # of the cell
    seconds: float

    @property
    def seed(self) -> int:
        """Another one for each repeat."""
        return self.job.seed + self.cell.repeat

    @property
    def clock(self) -> Clock:
        """What tells the time of the training."""
        return clock_of(self.study.device)


def train_on_pairs(task: Task) -> Trained:
    """Train a baseline on the cell's labelled pictures by its paper's recipe."""
    cell, study = task.cell, task.study
    rows = slice(cell.first, cell.first + cell.shots) if cell.shots else slice(None)
    examples = study.examples(cell.kind, rows)
    batch = min(BATCH, len(examples.img))

    def reports(steps: int) -> Iterator[FitReport]:
        method = new_baseline(task, examples.num_classes)
        recipe = FAMILIES[cell.method].recipe
        return train_baseline(
            method, examples, steps=steps, recipe=recipe, batch=batch, seed=task.seed
        )

    steps = steps_within(task.seconds, reports(TRIAL_STEPS), task.clock)
    for report in timed(reports(steps), task.seconds, task.clock):
        last = report
    method, classes = last.method, examples.num_classes
    save_method(method, study.size, task.folder / "model.safetensors")
    facts = {"steps": last.step, "samples": last.step * batch, "planned_steps": steps}
    return Trained(lambda label, seed: draw(method, label, classes, seed), facts)


def new_baseline(task: Task, num_classes: int) -> Method:
    """Build the untrained baseline of a cell; lite0 stands in for a paper's VGG distance."""
    name = task.cell.method
    options = fitting(name, num_classes, task.study.size) | of_width(name, task.job.width)
    if name == "oasis":
        options["unknown_first"] = task.cell.kind == "sparse"
    options |= parse_options(task.cell.options)
    weight = options.get("perceptual_weight", FAMILIES[name].perceptual_weight)
    distance = load_perceptual("lite0") if weight else None
    if isinstance(distance, torch.nn.Module):
        distance.to(task.study.device)
    method = build(name, options, seed=task.seed, perceptual=distance)
    method.networks.to(task.study.device)
    return method


def fitted(task: Task, weights: Prior, prior: Prior) -> Labeler:
    """Fit a labeler to the cell's shots."""
    cell, classes = task.cell, KINDS[task.cell.kind]
    method = "prototypes" if cell.method in ("paper", "prototypes") else "auto"
    method = chosen_method(classes, method=method)
    images = None
    if cell.method == "judge":
        shots = judged(task, prior, JUDGED_SHOTS)  # whose codes are exact
    else:
        shots = given(task, prior)
        if method == "linear":
            images = task.study.pictures(slice(cell.first, cell.first + cell.shots))
    return fit_labeler(
        weights, shots.ws, shots.labels, classes, method=method, images=images, seed=task.seed
    )


def train_few_shot(task: Task) -> Trained:
    """Fit a labeler to the cell's shots, and train an encoder on what it says of samples."""
    cell, device = task.cell, task.study.device
    weights = open_weights(None, device)
    prior = prepare(weights)
    labeler = fitted(task, weights, prior)
    save_labeler(labeler, task.folder / "labeler.safetensors")
    preset = "reference" if cell.method == "paper" else "default"
    training = TrainEncoderJob(
        labeler=task.folder, preset=preset, kind="backbone_wplus", trunk="light", seed=task.seed
    )
    settings, samples = training.settings(), None
    if cell.method == "judge":  # every sample comes with the judge's labels
        settings = dataclasses.replace(settings, shot_share=1.0)
        samples = judged(task, prior, JUDGED_SAMPLES)

    def reports(steps: int) -> Iterator[TrainReport]:
        encoder = new_encoder(training, labeler, prior).to(device)
        return train_encoder(
            encoder,
            labeler,
            prior,
            steps=steps,
            settings=settings,
            shots=samples,
            seed=task.seed,
        )

    steps = steps_within(task.seconds, reports(TRIAL_STEPS), task.clock)
    stages = {1, *(steps * k // STAGES for k in range(1, STAGES + 1))}
    rows: dict[str, Tensor] = {}
    for report in timed(reports(steps), task.seconds, task.clock):
        last = report
        if report.step in stages:
            sample, found, drawn = progress_rows(report.encoder, labeler, prior, task.seed)
            rows |= {"sample": as_tensor(sample), "label": as_tensor(found)}
            rows[str(report.step)] = as_tensor(drawn)
    write_bytes(task.folder / "progress.safetensors", save(rows))
    batch = settings.batch
    facts: dict[str, Any] = {"steps": last.step, "samples": last.step * batch}
    facts["planned_steps"] = steps
    if cell.kind == "dense":
        facts |= pseudo_labels(task.study, labeler, prior)

    save_encoder(last.encoder, task.folder / "encoder.safetensors")
    return Trained(painter(last.encoder, prior, lambda label: encode(label, last.encoder)), facts)


def refine_few_shot(task: Task) -> Trained:
    """Draw with what the default has learned, each code refined: no training of its own."""
    cell, device = task.cell, task.study.device
    default = task.folder.parent / Cell("default", cell.kind, cell.shots, cell.repeat).name
    labeler = load_labeler(default / "labeler.safetensors").to(device)
    encoder = load_encoder(default / "encoder.safetensors", device=device)
    prior = open_prior(None, device)

    def find(label: Tensor) -> Tensor:
        gen = stream(0, "report/refine", device)
        return refine(label, encode(label, encoder), labeler, prior, gen=gen).ws

    result = read_json(default / "result.json")
    kept = ("training_seconds", "steps", "samples", "planned_steps", "pseudo_miou")
    return Trained(painter(encoder, prior, find), {k: result[k] for k in kept if k in result})


def painter(encoder: MaskEncoder, prior: Prior, find: Callable[[Tensor], Tensor]) -> Painter:
    """Return what draws maps in random styles, from the codes that `find` gives."""
    layouts = Layouts(find)

    def paint(label: Tensor, seed: int) -> Tensor:
        label = label.to(prior.mapping.w_avg.device)
        style = sample_styles(1, prior, stream(seed, "report/styles"))
        found = synthesize(label, encoder, prior, ws_layout=layouts(label), ws_style=style)
        return found.img[:, 0]

    return paint


class Layouts:
    """Codes of batches of maps, found once for all the styles they are drawn in."""

    def __init__(self, find: Callable[[Tensor], Tensor]) -> None:
        self._find = find
        self._known: list[tuple[Tensor, Tensor]] = []

    def __call__(self, label: Tensor) -> Tensor:
        """Return the codes [N,L,D] of `label` [N,H,W]."""
        for known, ws in self._known:
            if torch.equal(known, label):
                return ws
        self._known.append((label, self._find(label)))
        return self._known[-1][1]


def draw_average(task: Task) -> Trained:
    """Return what draws the prior's average layout in random styles: what costs no map at all."""
    prior = open_prior(None, task.study.device)
    average = prior.mapping.w_avg.expand(1, prior.num_ws, -1)

    @torch.no_grad()
    def paint(label: Tensor, seed: int) -> Tensor:
        style = sample_styles(1, prior, stream(seed, "report/styles"))
        return prior.synthesis(mix_styles(average, style, prior)[0]).img.expand(
            len(label), -1, -1, -1
        )

    return Trained(paint, {"steps": 0, "samples": 0})


def given(task: Task, prior: Prior) -> Shots:
    """Return the cell's shots: codes by inversion, and the exact maps."""
    cell, device = task.cell, task.study.device
    file = task.folder.parent / inversion(cell.repeat).name / "codes.safetensors"
    ws = load_codes(file, prior)[1][: cell.shots].to(device)
    rows = slice(cell.first, cell.first + cell.shots)
    return Shots(ws, task.study.maps("renders", cell.kind)[rows])


def as_tensor(row: list[UInt8]) -> Tensor:
    """Return pictures of one size, uint8 [N,H,W,3]."""
    return torch.from_numpy(np.stack(row)).contiguous()


@torch.no_grad()
def judged(task: Task, prior: Prior, count: int) -> Shots:
    """Return samples of the prior, labelled by the judge."""
    gen = stream(task.seed, f"report/judged {count}")
    z = sample_z(count, prior.z_dim, gen).to(task.study.device)
    ws = prior.mapping(z)
    labels = [task.study.judge.labels(prior.synthesis(part).img) for part in torch.split(ws, 16)]
    return Shots(ws, torch.cat(labels))


@torch.no_grad()
def pseudo_labels(study: Study, labeler: Labeler, prior: Prior) -> dict[str, float]:
    """Return how the labels of samples agree with the judge's of their pictures."""
    z = sample_z(SAMPLES, prior.z_dim, stream(0, "report/pseudo labels")).to(study.device)
    counts = torch.zeros(labeler.num_classes, labeler.num_classes, dtype=torch.long)
    for ws in torch.split(prior.mapping(z), 16):
        seen = study.judge.labels(prior.synthesis(ws).img)
        found = label_samples(labeler, prior, ws, (seen.shape[1], seen.shape[2]))
        counts += confusion(found, seen, labeler.num_classes).cpu()
    scores = agreement(counts)
    return {"pseudo_miou": round(scores.miou, 4), "pseudo_accuracy": round(scores.accuracy, 4)}
