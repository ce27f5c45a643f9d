"""`prior train`: teach a StyleGAN2 to draw a folder of unlabelled pictures."""

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from fewshot_smis.data import sheets
from fewshot_smis.data.collection import ImageCollection
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.jobs.base import pick_device, progress
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run
from stylegan import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    load_snapshot,
    save_generator,
)
from stylegan.augment import AdaptiveStrength, Augment
from stylegan.critic import Augmentation, Critic
from stylegan.errors import CheckpointError, ConfigError
from stylegan.layers import fit_base
from stylegan.parallel import process_group
from stylegan.seeding import sample_z, stream
from stylegan.training import PriorReport, PriorTrainer, train_prior
from stylegan.transfer import resized, transfer_discriminator, transfer_generator


class Augmenting(NamedTuple):
    """How pictures are changed: mirrored in the data, or in the discriminator's eye."""

    flips: bool
    strength: float
    adaptive: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPriorJob(Job):
    """Train a StyleGAN2 on unlabelled pictures; torchrun shares the work among processes."""

    parallel: ClassVar[bool] = True

    data: Path = opt(None, "Folder of pictures.", required=True)
    resolution: str = opt(
        "", "Side, or HEIGHTxWIDTH, of the pictures; by default the transferred file's, or 64."
    )
    kimg: float = opt(1000.0, "Thousands of pictures to show.", min=0)
    batch: int = opt(16, "Pictures a step.", min=2)
    widths: str = opt(
        "",
        "Channels from 4 px up, as 192,192,160,96,48, and those of the discriminator after a "
        "slash; by default the transferred file's, or config F's, 512 at most.",
    )
    latent: str = opt(
        "", "z width, w width, mapping layers; by default the transferred file's, or 512,512,8."
    )
    lr: float = opt(0.0025, "Learning rate of both networks (mapping x 0.01).", min=0)
    r1_gamma: float = opt(1.0, "Weight of R1.", min=0)
    path_weight: float = opt(2.0, "Weight of path length regularisation.", min=0)
    augment: str = opt(
        "none",
        "What the discriminator sees changed: none, ada (at a strength that adapts) or a strength "
        "such as 0.3; and flip, to mirror half of the data: flip,ada.",
    )
    transfer: Path | None = opt(
        None, "Network file, or run of prior train, to start from; it may be of another size."
    )
    snapshot: float = opt(2.0, "Thousands of pictures between snapshots.", min=0)
    precision: str = opt("auto", "Number format.", choices=("auto", "float32", "bfloat16"))
    resume: Path | None = opt(None, "Run directory to continue.")

    def __post_init__(self) -> None:
        """Check the fields, and that widths and resolution fit each other."""
        super().__post_init__()
        self.augmentation()
        if self.transfer is None:
            generator = self.generator_config(None)
            self.discriminator_config(generator, None)

    def augmentation(self) -> Augmenting:
        """Return how the pictures are changed."""
        words = [word.strip() for word in self.augment.split(",")]
        how = [word for word in words if word != "flip"] or ["none"]
        flips = "flip" in words
        if how in (["none"], ["ada"]):
            return Augmenting(flips, 0.0, how == ["ada"])
        try:
            (strength,) = map(float, how)
        except ValueError:
            strength = -1.0
        if not 0 <= strength <= 1:
            raise ConfigError(
                f"--augment {self.augment}: give none, ada or a strength from 0 to 1, and flip "
                "beside it after a comma"
            )
        return Augmenting(flips, strength, False)

    def generator_config(self, given: GeneratorConfig | None) -> GeneratorConfig:
        """Return the sizes of the generator: the file's `given`, but for what the job states."""
        size = self.img_size() or ((64, 64) if given is None else given.img_size)
        resolution, base = fit_base(*size)
        if given is None:
            config = GeneratorConfig(img_resolution=resolution, base=base)
        else:
            config = resized(given, resolution, base)
        stated: dict[str, Any] = {}
        if widths := self.widths.partition("/")[0]:
            stated["channels"] = _channels(widths, config)
        if self.latent:
            latent = numbers("latent", self.latent)
            if len(latent) != 3:
                raise ConfigError(f"--latent {self.latent}: give three numbers, as 512,512,8")
            stated |= zip(("z_dim", "w_dim", "mapping_layers"), latent, strict=True)
        return dataclasses.replace(config, **stated)

    def discriminator_config(
        self, generator: GeneratorConfig, given: DiscriminatorConfig | None
    ) -> DiscriminatorConfig:
        """Return the sizes of the discriminator: the file's, the job's, or the generator's."""
        widths = self.widths.partition("/")[2]
        if given is not None:
            config = resized(given, generator.img_resolution, generator.base)
        else:
            config = DiscriminatorConfig(
                img_resolution=generator.img_resolution,
                base=generator.base,
                c_dim=generator.c_dim,
                channels=generator.channels,
            )
        if not widths:
            return config
        return dataclasses.replace(config, channels=_channels(widths, config))

    def img_size(self) -> tuple[int, int] | None:
        """Return the height and width that the job states."""
        if not self.resolution:
            return None
        sides = numbers("resolution", self.resolution, "x")
        if len(sides) > 2:
            raise ConfigError(f"--resolution {self.resolution}: give one side, or HEIGHTxWIDTH")
        return sides[0], sides[-1]


def _channels(widths: str, config: GeneratorConfig | DiscriminatorConfig) -> dict[int, int]:
    """Return channels per resolution of a list of widths."""
    given = numbers("widths", widths)
    if len(given) != len(config.channels):
        raise ConfigError(
            f"--widths {widths}: {len(given)} numbers, but {config.img_resolution} px has "
            f"{len(config.channels)} blocks, from 4 px up"
        )
    return dict(zip(sorted(config.channels), given, strict=True))


def numbers(flag: str, text: str, between: str = ",") -> list[int]:
    """Read positive numbers of an option."""
    parts = text.split(between)
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--{flag} {text}: give whole numbers above 0, with '{between}' between")
    return [int(part) for part in parts]


class Networks(NamedTuple):
    """What a training starts from."""

    G: Generator
    G_ema: Generator
    D: Discriminator


class Given(NamedTuple):
    """What a file to transfer from holds."""

    G: Generator
    G_ema: Generator
    D: Discriminator | None


def build_networks(job: TrainPriorJob) -> Networks:
    """Build fresh networks of the job's sizes, and fill them from the file it names, if any.

    Raises:
        CheckpointError: The file holds no such network, or one of other widths.
    """
    name = str(job.transfer)
    given = None if job.transfer is None else _read(job.transfer)
    config = job.generator_config(None if given is None else given.G_ema.config)
    critic = job.discriminator_config(
        config, None if given is None or given.D is None else given.D.config
    )
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        G, D = Generator(config), Discriminator(critic)
    if given is None:
        return Networks(G, G, D)
    return _filled(given, G, D, name)


def _filled(given: Given, G: Generator, D: Discriminator, name: str) -> Networks:
    average = copy.deepcopy(G)
    transfer_generator(given.G_ema, average, name)
    transfer_generator(given.G, G, name)
    if given.D is not None:
        transfer_discriminator(given.D, D, name)
    return Networks(G, average, D)


def _read(path: Path) -> Given:
    """Read a file of weights, or the newest checkpoint of a run directory."""
    file = Run(path).latest_checkpoint() if path.is_dir() else path
    if file is None:
        raise CheckpointError(f"{path}: holds no checkpoint; --transfer takes a file of weights")
    found = load_snapshot(file)
    G = found.G or found.G_ema
    if not isinstance(G, Generator) or not isinstance(found.G_ema, Generator):
        raise CheckpointError(f"{path}: not a StyleGAN2, and no other family is trained here")
    return Given(G, found.G_ema, found.D)


def build_augmentation(job: TrainPriorJob, device: torch.device) -> Augmentation | None:
    """Build what changes the pictures that the discriminator sees; None leaves them alone."""
    how = job.augmentation()
    if not how.adaptive and how.strength == 0:
        return None
    augment = Augment()
    augment.p = how.strength
    kimg = 500.0 if job.transfer is None else 100.0  # the paper's, and its code's for transfer
    strength = AdaptiveStrength(kimg=kimg) if how.adaptive else None
    return Augmentation(augment, stream(job.seed, "prior/augment", device), strength)


def build_trainer(job: TrainPriorJob, device: torch.device) -> PriorTrainer:
    """Build networks, critic and data source of the job."""
    nets = build_networks(job)
    augmentation = build_augmentation(job, device)
    return PriorTrainer(
        nets.G.to(device),
        Critic(nets.D.to(device), r1_gamma=job.r1_gamma, augmentation=augmentation),
        ImageCollection(job.data, nets.G.img_resolution),
        average=nets.G_ema,
        batch=job.batch,
        lr=job.lr,
        ema_rampup=0.05 if job.transfer is None else None,
        path_weight=job.path_weight,
        precision=job.precision,
        seed=job.seed,
    )


def run_train_prior(job: TrainPriorJob, run: Run | None) -> dict[str, Any]:
    """Train, reporting to the run: metrics, sample sheets, snapshots that load as generators.

    The further processes of torchrun have no run: they share the batches and write nothing.
    """
    with process_group(pick_device(job.device)) as device:
        trainer = build_trainer(job, device)
        checkpoint = None if job.resume is None else Run(job.resume).latest_checkpoint()
        if checkpoint is not None:
            trainer.load_state(torch.load(checkpoint, map_location=device, weights_only=True))
        reports = train_prior(trainer, kimg=job.kimg)
        if run is None:
            for _ in reports:
                pass
        else:
            _record(job, trainer, reports, run)
    return {"kimg": trainer.images_seen / 1000, "generator": "generator.safetensors"}


def _record(
    job: TrainPriorJob, trainer: PriorTrainer, reports: Iterator[PriorReport], run: Run
) -> None:
    """Go through the training, and write down what it reports."""
    if trainer.step_count:
        run.log(f"resumed at {trainer.images_seen / 1000:.1f} kimg")
    every = max(round(job.snapshot * 1000 / job.batch), 1)
    remaining = max(int(job.kimg * 1000) - trainer.images_seen, 0)
    steps = -(-remaining // job.batch)
    for report in progress(reports, steps, "train prior", unit="img", scale=job.batch):
        if report.step % 20 == 0:
            record = {"step": report.step, "kimg": report.images / 1000, **report.losses}
            run.report({**record, "img_per_s": job.batch / report.seconds})
        if report.step % every == 0:
            snapshot(trainer, run)
    snapshot(trainer, run)


def snapshot(trainer: PriorTrainer, run: Run) -> None:
    """Save the training's state, the averaged generator and a sheet of its samples."""
    trainer.check()
    run.checkpoint(trainer.step_count, trainer.state())
    notes = {"kimg": f"{trainer.images_seen / 1000:.1f}"}
    save_generator(trainer.G_ema, run.path / "generator.safetensors", notes=notes)
    z = sample_z(32, trainer.G.z_dim, stream(trainer.seed, "prior/sheet")).to(trainer.device)
    c = trainer.images.labels(torch.arange(32) % len(trainer.images)).to(trainer.device)
    with torch.no_grad():
        images = list(to_uint8(trainer.G_ema(z, c if trainer.G.c_dim else None)))
    rows = [images[i : i + 8] for i in range(0, 32, 8)]
    name = f"kimg-{trainer.images_seen / 1000:07.1f}.png"
    (run.path / "samples").mkdir(exist_ok=True)
    write_image(run.path / "samples" / name, sheets.grid(rows))
