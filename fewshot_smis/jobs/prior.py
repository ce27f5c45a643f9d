"""The commands under `prior`: look into a generator, sample it, train it, convert it."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from fewshot_smis.codes import save_codes
from fewshot_smis.data import sheets
from fewshot_smis.data.collection import ImageCollection
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.jobs.base import open_prior, pick_device, progress
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run
from stylegan import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    save_generator,
)
from stylegan.errors import ConfigError
from stylegan.layers import default_channels
from stylegan.seeding import sample_z, stream
from stylegan.training import Critic, PriorTrainer, train_prior


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplePriorJob(Job):
    """Draw samples of a generator; their codes are kept, so that they can be labelled."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    count: int = opt(16, "Number of samples.", min=1)
    psi: float = opt(1.0, "Truncation: 1 is none, 0 the average picture.")
    batch: int = opt(8, "Pictures drawn at once.", min=1)


def sample_prior(job: SamplePriorJob, run: Run) -> dict[str, Any]:
    """Write images/*.png, codes.safetensors and a sheet; labels beside them make pairs."""
    device = pick_device(job.device)
    prior = open_prior(job.prior, device)
    z = sample_z(job.count, prior.z_dim, stream(job.seed, "prior/sample")).to(device)
    c = _conditions(prior, job.count).to(device) if prior.c_dim else None
    names = [f"seed{job.seed}-{i:04d}" for i in range(job.count)]
    images, codes = [], []
    starts = range(0, job.count, job.batch)
    for i in progress(starts, len(starts), "sample"):
        part = slice(i, i + job.batch)
        with torch.no_grad():
            ws = prior.mapping(z[part], None if c is None else c[part], truncation_psi=job.psi)
            images += list(to_uint8(prior.synthesis(ws).img))
        codes.append(ws.cpu())
    (run.path / "images").mkdir()
    for name, image in zip(names, images, strict=True):
        write_image(run.path / "images" / f"{name}.png", image)
    save_codes(run.path / "codes.safetensors", torch.cat(codes), names, {"psi": job.psi})
    rows = [images[i : i + 8] for i in range(0, min(len(images), 64), 8)]
    write_image(run.path / "sheet.png", sheets.grid(rows))
    return {"samples": job.count}


def _conditions(prior: Generator, count: int) -> torch.Tensor:
    """Return one-hot conditions [count, c_dim], the classes in turn."""
    classes = torch.arange(count) % prior.c_dim
    return torch.nn.functional.one_hot(classes, prior.c_dim).float()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPriorJob(Job):
    """Train a StyleGAN2 on a folder of unlabelled pictures."""

    data: Path = opt(None, "Folder of pictures.", required=True)
    resolution: int = opt(64, "Side of the pictures, a power of two.", min=16, max=1024)
    kimg: float = opt(1000.0, "Thousands of pictures to show.", min=0)
    batch: int = opt(16, "Pictures a step.", min=2)
    widths: str = opt(
        "", "Channels from 4 px up, as 192,192,160,96,48; by default config F's, 512 at most."
    )
    critic_widths: str = opt("", "Channels of the discriminator, likewise; as --widths.")
    latent: str = opt("512,512,8", "z width, w width, mapping layers.")
    lr: float = opt(0.0025, "Learning rate of both networks (mapping x 0.01).", min=0)
    r1_gamma: float = opt(1.0, "Weight of R1.", min=0)
    mixing: float = opt(0.9, "Share of samples with mixed styles.", min=0, max=1)
    ema_kimg: float = opt(10.0, "Half-life of the averaged generator.", min=0)
    snapshot: float = opt(2.0, "Thousands of pictures between snapshots.", min=0)
    precision: str = opt("auto", "Number format.", choices=("auto", "float32", "bfloat16"))
    resume: Path | None = opt(None, "Run directory to continue.")

    def __post_init__(self) -> None:
        """Check the fields, and that widths and resolution fit each other."""
        super().__post_init__()
        self.generator_config()
        self.channels(self.critic_widths or self.widths)

    def channels(self, widths: str) -> dict[int, int]:
        """Return channels per resolution of a list of widths; "" is config F's."""
        channels = default_channels(self.resolution)
        if not widths:
            return channels
        given = numbers("widths", widths)
        if len(given) != len(channels):
            raise ConfigError(
                f"--widths {widths}: {len(given)} numbers, but {self.resolution} px has "
                f"{len(channels)} blocks, from 4 px up"
            )
        return dict(zip(channels, given, strict=True))

    def generator_config(self) -> GeneratorConfig:
        """Return the sizes of the generator."""
        latent = numbers("latent", self.latent)
        if len(latent) != 3:
            raise ConfigError(f"--latent {self.latent}: give three numbers, as 512,512,8")
        return GeneratorConfig(
            img_resolution=self.resolution,
            z_dim=latent[0],
            w_dim=latent[1],
            mapping_layers=latent[2],
            channels=self.channels(self.widths),
        )


def numbers(flag: str, text: str) -> list[int]:
    """Read comma-separated positive numbers of an option."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--{flag} {text}: give whole numbers above 0, separated by commas")
    return [int(part) for part in parts]


def build_trainer(job: TrainPriorJob) -> PriorTrainer:
    """Build networks, critic and data source of the job."""
    device = pick_device(job.device)
    images = ImageCollection(job.data, job.resolution)
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        generator = Generator(job.generator_config()).to(device)
        channels = job.channels(job.critic_widths or job.widths)
        config = DiscriminatorConfig(img_resolution=job.resolution, channels=channels)
        critic = Critic(Discriminator(config).to(device), r1_gamma=job.r1_gamma)
    return PriorTrainer(
        generator,
        critic,
        images,
        batch=job.batch,
        lr=job.lr,
        mixing=job.mixing,
        ema_kimg=job.ema_kimg,
        precision=job.precision,
        seed=job.seed,
    )


def run_train_prior(job: TrainPriorJob, run: Run) -> dict[str, Any]:
    """Train, reporting to the run: metrics, sample sheets, snapshots that load as generators."""
    trainer = build_trainer(job)
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        trainer.load_state(torch.load(checkpoint, weights_only=True))
        run.log(f"resumed at {trainer.images_seen / 1000:.1f} kimg")
    every = max(round(job.snapshot * 1000 / job.batch), 1)
    remaining = max(int(job.kimg * 1000) - trainer.images_seen, 0)
    steps = -(-remaining // job.batch)
    for report in progress(train_prior(trainer, kimg=job.kimg), steps, "train prior"):
        if report.step % 20 == 0:
            record = {"step": report.step, "kimg": report.images / 1000, **report.losses}
            run.report({**record, "img_per_s": job.batch / report.seconds})
        if report.step % every == 0:
            snapshot(trainer, run)
    snapshot(trainer, run)
    return {"kimg": trainer.images_seen / 1000, "generator": "generator.safetensors"}


def snapshot(trainer: PriorTrainer, run: Run) -> None:
    """Save the training's state, the averaged generator and a sheet of its samples."""
    run.checkpoint(trainer.step_count, trainer.state())
    notes = {"kimg": f"{trainer.images_seen / 1000:.1f}"}
    save_generator(trainer.G_ema, run.path / "generator.safetensors", notes=notes)
    z = sample_z(32, trainer.G.z_dim, stream(trainer.seed, "prior/sheet")).to(trainer.device)
    with torch.no_grad():
        images = list(to_uint8(trainer.G_ema(z)))
    rows = [images[i : i + 8] for i in range(0, 32, 8)]
    name = f"kimg-{trainer.images_seen / 1000:07.1f}.png"
    (run.path / "samples").mkdir(exist_ok=True)
    write_image(run.path / "samples" / name, sheets.grid(rows))
