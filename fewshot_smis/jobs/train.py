"""`train`: a mask encoder from endless pseudo-labelled samples of the prior."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from encoders import EncoderConfig, MaskEncoder, build_encoder, load_encoder, save_encoder
from fewshot_smis.data import sheets
from fewshot_smis.data.images import UInt8, to_uint8, write_image
from fewshot_smis.data.labels import colorize, resize_label
from fewshot_smis.data.pairs import load_label_maps
from fewshot_smis.encoding import planes
from fewshot_smis.jobs.base import (
    open_prior,
    pick_device,
    prior_of,
    progress,
    record_prior,
    run_file,
)
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.labelers import Labeler, label_samples, load_labeler, save_labeler
from fewshot_smis.metrics.marks import mark_distance
from fewshot_smis.metrics.segmentation import consistency
from fewshot_smis.runs import Run
from fewshot_smis.training import PRESETS, Shots, TrainingSettings, train_encoder
from stylegan import Prior
from stylegan.seeding import sample_z, stream

STEPS = {"default": 5000, "reference": 100_000}  # of batches of 8 and of 2
REPORT_EVERY = 20  # steps between two lines of metrics.jsonl


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainEncoderJob(Job):
    """Train a mask encoder from pseudo-labelled samples of the prior."""

    labeler: Path = opt(None, "Run of `label`, or its labeler file.", required=True)
    prior: Path | None = opt(None, "Generator file; by default the labeler run's own.")
    preset: str = opt("default", "Settings; reference is the paper's.", choices=tuple(PRESETS))
    steps: int | None = opt(None, "Optimiser steps; by default 5000, reference 100000.", min=1)
    batch: int | None = opt(None, "Samples a step; by default the preset's.", min=1)
    lr: float | None = opt(None, "Learning rate; by default the preset's.", min=0)
    consistency: float | None = opt(
        None, "Weight of the labeler's view of what is drawn; by default the preset's.", min=0
    )
    class_dropout: float = opt(
        0.0, "Share of the classes left out of each map, for drawings that lack some.", min=0
    )
    kind: str = opt(
        "gradual",
        "Encoder: pSp's feature pyramid, or codes from the last layer (quicker to train).",
        choices=("gradual", "backbone_wplus", "backbone_w"),
    )
    trunk: str = opt("ir_se50", "Trunk; light suits small priors.", choices=("ir_se50", "light"))
    width: int = opt(32, "Channels of the light trunk.", min=8)
    input_size: int | None = opt(None, "Side of the maps; by default 256, or the prior's if less.")
    validate: Path | None = opt(None, "Held-out label maps to measure the trained encoder on.")
    precision: str = opt("auto", "Number format.", choices=("auto", "float32", "bfloat16"))
    every: int = opt(1000, "Steps between checkpoints and sheets.", min=1)
    resume: Path | None = opt(None, "Run directory to continue.")

    def settings(self) -> TrainingSettings:
        """Return the preset with the options that were given."""
        given = {"batch": self.batch, "lr": self.lr, "consistency": self.consistency}
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        changes["class_dropout"] = self.class_dropout
        return dataclasses.replace(PRESETS[self.preset], **changes)

    @property
    def total(self) -> int:
        """Optimiser steps in all."""
        return self.steps or STEPS[self.preset]


def new_encoder(job: TrainEncoderJob, labeler: Labeler, prior: Prior) -> MaskEncoder:
    """Build an untrained encoder that fits labeler and prior, drawn from the job's seed."""
    size = min(prior.img_resolution, 256) if job.input_size is None else job.input_size
    config = EncoderConfig(
        kind=job.kind,
        trunk=job.trunk,
        in_channels=labeler.num_classes,
        num_ws=prior.num_ws,
        w_dim=prior.w_dim,
        input_size=size,
        width=job.width,
        mark_grid=labeler.resolution if labeler.sparse else 0,
        mark_radius=size // 32 if labeler.sparse and job.preset == "default" else 0,
    )
    return build_encoder(config, prior.mapping.w_avg, seed=job.seed)


def run_train(job: TrainEncoderJob, run: Run) -> dict[str, Any]:
    """Write encoder.safetensors, checkpoints, metrics and sheets as training goes on."""
    device = pick_device(job.device)
    file = run_file(job.labeler, "labeler.safetensors", "fitted labeler")
    source = prior_of(job.labeler, job.prior)
    prior = open_prior(source, device)
    labeler = load_labeler(file).to(device)
    run.save_inputs({"labeler": file, "prior": source})
    record_prior(run, source)
    labeler.classes.save(run.path / "classes.json")
    save_labeler(labeler, run.path / "labeler.safetensors")  # for the maps of photographs
    encoder = new_encoder(job, labeler, prior).to(device)
    state = None
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        state = torch.load(checkpoint, weights_only=True)
        run.log(f"resumed at step {state['step']}")
    reports = train_encoder(
        encoder,
        labeler,
        prior,
        steps=job.total,
        settings=job.settings(),
        validation=read_shots(job.labeler),
        validate_every=job.every,
        precision=job.precision,
        seed=job.seed,
        resume=state,
    )
    left = job.total - (0 if state is None else state["step"])
    loss = float("nan")
    for report in progress(reports, left, "train"):
        loss = report.loss
        if report.step % REPORT_EVERY == 0 or report.validation is not None:
            record = {"step": report.step, "loss": loss, "lr": report.lr, **report.terms}
            checked = {} if report.validation is None else report.validation._asdict()
            run.report({**record, "seconds": report.seconds, **checked})
        if report.step % job.every == 0 or report.step == job.total:
            run.checkpoint(report.step, report.state())
            save_encoder(report.encoder, run.path / "encoder.safetensors")
            picture = progress_sheet(report.encoder, labeler, prior, job.seed)
            write_image(run.path / "samples" / f"step-{report.step:06d}.png", picture)
    result: dict[str, Any] = {"steps": job.total, "loss": loss, "encoder": "encoder.safetensors"}
    if job.validate is not None:
        maps = [label for _, label in load_label_maps(job.validate, labeler.classes)]
        trained = load_encoder(run.path / "encoder.safetensors", device=device)
        for name, model in (("trained", trained), ("untrained", new_encoder(job, labeler, prior))):
            result[f"miou_{name}"] = consistency(maps, model.to(device), labeler, prior)
            if labeler.sparse:
                result[f"percent_{name}"] = mark_distance(maps, model, labeler, prior)
    return result


def read_shots(path: Path) -> Shots | None:
    """Return the labelled pictures kept in a run of `label`, None beside a bare labeler file."""
    file = path / "shots.safetensors"
    if not file.is_file():
        return None
    tensors = load_file(file)
    return Shots(tensors["ws"], tensors["labels"])


def progress_sheet(encoder: MaskEncoder, labeler: Labeler, prior: Prior, seed: int) -> UInt8:
    """Draw samples, their pseudo labels and the encoder's reconstructions, a column each."""
    rows = progress_rows(encoder, labeler, prior, seed)
    return sheets.grid(rows, row_titles=["sample", "pseudo label", "reconstruction"])


@torch.no_grad()
def progress_rows(
    encoder: MaskEncoder, labeler: Labeler, prior: Prior, seed: int, count: int = 6
) -> list[list[UInt8]]:
    """Return a row of samples, one of their pseudo labels, one of the encoder's reconstructions."""
    device = next(prior.parameters()).device
    was_training = encoder.training
    encoder.eval()
    ws = prior.mapping(sample_z(count, prior.z_dim, stream(seed, "train/sheet")).to(device))
    labels = label_samples(labeler, prior, ws)
    small = resize_label(labels, encoder.input_size)
    codes = encoder(planes(small, encoder))
    encoder.train(was_training)
    return [
        list(to_uint8(prior.synthesis(ws).img)),
        [colorize(label, labeler.classes) for label in labels.cpu()],
        list(to_uint8(prior.synthesis(codes).img)),
    ]


def open_model(run: Path, prior: Path | None, device: torch.device) -> tuple[MaskEncoder, Prior]:
    """Load the encoder of a training run and the prior it was trained on."""
    encoder = load_encoder(run_file(run, "encoder.safetensors", "trained encoder"), device=device)
    return encoder, open_prior(prior_of(run, prior), device)
