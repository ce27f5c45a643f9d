"""`baseline train`, `baseline synthesize`: systems trained on labelled pictures alone."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fewshot_smis.baselines.batch import Drawing, Method, Segmenting
from fewshot_smis.baselines.fit import Examples, read_examples, train_baseline
from fewshot_smis.baselines.methods import (
    FAMILIES,
    NAMES,
    Recipe,
    build,
    fitting,
    load_method,
    save_method,
)
from fewshot_smis.data import Classes, sheets
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.data.labels import colorize, one_hot, resize_label
from fewshot_smis.data.pairs import load_label_maps, load_pairs
from fewshot_smis.jobs.base import pick_device, progress, run_file
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.jobs.prior_train import numbers
from fewshot_smis.perceptual import NAMES as DISTANCES
from fewshot_smis.perceptual import load_perceptual
from fewshot_smis.runs import Run
from stylegan.errors import ConfigError
from stylegan.seeding import stream

REPORT_EVERY = 20  # steps between two lines of metrics.jsonl


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainBaselineJob(Job):
    """Train a baseline on labelled pictures, by its paper's recipe."""

    method: str = opt(None, "Which one.", choices=NAMES, argument=True, required=True)
    pairs: Path = opt(None, "Folder of images/ and labels/.", required=True)
    limit: int | None = opt(None, "Use only the first so many pairs.", min=1)
    resolution: str = opt("256", "Size of the pictures: one side, or HEIGHTxWIDTH.")
    steps: int = opt(20_000, "Steps.", min=1)
    batch: int = opt(4, "Pictures a step.", min=1)
    lr: float | None = opt(
        None, "Learning rate of the generator, by default the paper's; the other side's follows."
    )
    width: int = opt(64, "Channels at the full size, in all networks; 64 in the papers.", min=1)
    options: str = opt("", "More of the method's configuration, as norm=instance,z_dim=256.")
    perceptual: str = opt("none", "Perceptual distance in the loss.", choices=DISTANCES)
    perceptual_weights: Path | None = opt(None, "LPIPS: file of the backbone's weights.")
    flip: bool = opt(False, "Mirror half of the pictures; not where classes are left or right.")
    precision: str = opt("float32", "Number format.", choices=("auto", "float32", "bfloat16"))
    every: int = opt(1000, "Steps between checkpoints and sheets.", min=1)
    resume: Path | None = opt(None, "Run directory to continue.")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        sides = numbers("resolution", self.resolution, "x")
        if len(sides) > 2:
            raise ConfigError(f"--resolution {self.resolution}: give one side, or HEIGHTxWIDTH")
        return sides[0], sides[-1]

    def recipe(self) -> Recipe:
        """Return the paper's recipe, at the learning rate that was asked for."""
        paper = FAMILIES[self.method].recipe
        if self.lr is None:
            return paper
        other = paper.lr_discriminator * self.lr / paper.lr
        return paper._replace(lr=self.lr, lr_discriminator=other)


def parse_options(text: str) -> dict[str, Any]:
    """Read `name=value` pairs, between commas; values are JSON, or else text.

    >>> parse_options("norm=instance,z_dim=8,balanced=false")
    {'norm': 'instance', 'z_dim': 8, 'balanced': False}

    Raises:
        ConfigError: A part is no such pair.
    """
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.strip().partition("=")
        if not equals:
            raise ConfigError(f"--options {part}: write name=value, with ',' between several")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def of_width(method: str, width: int) -> dict[str, int]:
    """Return the options that make all networks of a method `width` wide, in proportion.

    >>> of_width("oasis", 64)
    {'width': 64, 'discriminator_width': 64, 'hidden': 128}
    """
    known = [field.name for field in dataclasses.fields(FAMILIES[method].config)]
    sizes = {"width": width, "discriminator_width": width, "hidden": 2 * width}
    return {key: value for key, value in sizes.items() if key in known}


def new_method(job: TrainBaselineJob, num_classes: int) -> Method:
    """Build the untrained method of a job for maps of that many classes."""
    options = fitting(job.method, num_classes, job.size)
    known = {field.name for field in dataclasses.fields(FAMILIES[job.method].config)}
    options |= dict.fromkeys(known & {"width", "discriminator_width"}, job.width)
    perceptual = None
    if job.perceptual != "none":
        perceptual = load_perceptual(job.perceptual, job.perceptual_weights)
        if isinstance(perceptual, torch.nn.Module):
            perceptual.to(pick_device(job.device))
        options["perceptual_weight"] = 10.0
    options |= parse_options(job.options)
    return build(job.method, options, seed=job.seed, perceptual=perceptual)


def run_train_baseline(job: TrainBaselineJob, run: Run) -> dict[str, Any]:
    """Write model.safetensors, checkpoints, metrics and sheets as training goes on."""
    device = pick_device(job.device)
    pairs = load_pairs(job.pairs, limit=job.limit)
    run.save_inputs({"pairs": job.pairs})
    pairs.classes.save(run.path / "classes.json")
    examples = read_examples(pairs, job.size)
    method = new_method(job, examples.num_classes)
    method.networks.to(device)
    state = None
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        state = torch.load(checkpoint, weights_only=True)
        run.log(f"resumed at step {state['step']}")
    reports = train_baseline(
        method,
        examples,
        steps=job.steps,
        recipe=job.recipe(),
        batch=job.batch,
        flip=job.flip,
        precision=job.precision,
        seed=job.seed,
        resume=state,
    )
    losses: dict[str, float] = {}
    left = job.steps - (0 if state is None else state["step"])
    for report in progress(reports, left, f"train {job.method}"):
        losses = report.losses
        last = report.step == job.steps
        if report.step % REPORT_EVERY == 0 or last:
            record = {"step": report.step, "lr": report.lr, "seconds": report.seconds}
            run.report({**record, **losses})
        if report.step % job.every == 0 or last:
            run.checkpoint(report.step, report.state())
            save_method(report.method, job.size, run.path / "model.safetensors")
            picture = progress_sheet(report.method, examples, pairs.classes, job.seed)
            write_image(run.path / "samples" / f"step-{report.step:06d}.png", picture)
    facts = {"steps": job.steps, "shots": len(pairs.pairs), "perceptual": job.perceptual}
    return {**facts, "losses": losses, "model": "model.safetensors"}


def progress_sheet(
    method: Method, examples: Examples, classes: Classes, seed: int, count: int = 6
) -> Any:
    """Draw maps, their pictures, and what the method makes of them, a column each.

    From maps it draws pictures twice; from pictures it finds maps.
    """
    label, img = examples.label[:count], examples.img[:count]
    rows = [[colorize(one, classes) for one in label], list(img.permute(0, 2, 3, 1).numpy())]
    if isinstance(method, Segmenting):
        found = segment(method, img.float() / 127.5 - 1)
        rows.append([colorize(one, classes) for one in found])
        return sheets.grid(rows, row_titles=["map", "picture", "found"])
    drawn = [draw(method, label, examples.num_classes, seed + k) for k in range(2)]
    rows += [list(to_uint8(one)) for one in drawn]
    return sheets.grid(rows, row_titles=["map", "picture", "drawn", "again"])


@contextmanager
def evaluating(method: Method) -> Iterator[torch.device]:
    """Put the networks of `method` into eval mode for a while; yield their device."""
    training = method.networks.training
    method.networks.eval()
    try:
        yield next(method.networks.parameters()).device
    finally:
        method.networks.train(training)


def segment(method: Segmenting, img: torch.Tensor) -> torch.Tensor:
    """Return the maps [N,H,W] that `method` finds in `img` [N,3,H,W] in [-1,1]."""
    with evaluating(method) as device:
        return method.segment(img.to(device)).cpu()


def draw(method: Method, label: torch.Tensor, num_classes: int, seed: int) -> torch.Tensor:
    """Draw pictures [N,3,H,W] of maps `label` [N,H,W], in eval mode, noise drawn from `seed`.

    Raises:
        ConfigError: The method finds maps in pictures, and draws none.
    """
    if isinstance(method, Segmenting) or not isinstance(method, Drawing):
        raise ConfigError(
            f"a {type(method).__name__} finds label maps and draws no pictures; "
            "judge with it (`fewshot-smis evaluate --judge`), or give another baseline"
        )
    with evaluating(method) as device:
        onehot = one_hot(label.to(device), num_classes)
        return method.draw(onehot, stream(seed, "baseline/styles", device)).cpu()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizeBaselineJob(Job):
    """Draw pictures of label maps with a trained baseline, several styles each."""

    run: Path = opt(None, "Run of `baseline train`.", argument=True, required=True)
    labels: Path = opt(None, "Label map, or folder of label maps or pairs.", required=True)
    styles: int = opt(4, "Pictures a map, each with other noise.", min=1)


def run_synthesize_baseline(job: SynthesizeBaselineJob, run: Run) -> dict[str, Any]:
    """Write one picture a map and style, and a sheet."""
    file = run_file(job.run, "model.safetensors", "trained baseline")
    method, size = load_method(file, pick_device(job.device))
    classes = Classes.load(file.parent / "classes.json")
    maps = load_label_maps(job.labels, classes)
    run.save_inputs({"model": file, "labels": job.labels})
    (run.path / "images").mkdir()
    rows = []
    for name, label in progress(maps, len(maps), "synthesize"):
        small = resize_label(label[None], size)
        styles = range(job.seed, job.seed + job.styles)
        pictures = [to_uint8(draw(method, small, classes.num_classes, k))[0] for k in styles]
        for k, picture in enumerate(pictures):
            write_image(run.path / "images" / f"{name}-{k}.png", picture)
        rows.append([colorize(small[0], classes), *pictures])
    titles = ["map"] + [f"style {k}" for k in range(job.styles)]
    write_image(run.path / "sheet.png", sheets.grid(rows, col_titles=titles))
    return {"maps": len(maps), "pictures": len(maps) * job.styles}
