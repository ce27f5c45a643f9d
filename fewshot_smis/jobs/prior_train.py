"""`prior train`: teach a StyleGAN2 to draw a folder of unlabelled pictures."""

import dataclasses
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from fewshot_smis.data import sheets
from fewshot_smis.data.images import UInt8, to_uint8, write_image
from fewshot_smis.data.sources import open_source
from fewshot_smis.jobs.base import pick_device, progress
from fewshot_smis.jobs.curves import Curves
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.jobs.prior_networks import build_networks, read_given
from fewshot_smis.jobs.prior_steer import attribute_names, build_steering, finish, write_generator
from fewshot_smis.runs import Run
from stylegan import Discriminator, DiscriminatorConfig, GeneratorConfig
from stylegan.augment import AdaptiveStrength, Augment
from stylegan.critic import Augmentation, Critic
from stylegan.errors import ConfigError, DataError
from stylegan.layers import fit_base
from stylegan.lite0 import load_lite0
from stylegan.parallel import process_group
from stylegan.projected import ProjectedCritic
from stylegan.seeding import sample_z, stream
from stylegan.training import PriorReport, PriorTrainer, train_prior
from stylegan.transfer import resized


class Augmenting(NamedTuple):
    """How pictures are changed: mirrored in the data, or in the discriminator's eye."""

    flips: bool
    strength: float
    adaptive: bool


REPORT = 20
"""Steps between two lines of metrics.jsonl."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPriorJob(Job):
    """Train a StyleGAN2 on pictures.

    Several processes share each batch when they are started by
    `torchrun --nproc-per-node=2 -m fewshot_smis prior train ...`.
    """

    parallel: ClassVar[bool] = True

    data: str = opt(
        None,
        "Folder of pictures, dataset zip with labels, or faces:seed=0,count=20000 to render.",
        required=True,
    )
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
        "such as 0.3; and flip, to add the mirrored pictures: flip,ada.",
    )
    critic: str = opt(
        "plain",
        "StyleGAN2's discriminator alone, or projected: with heads on frozen lite0 features beside "
        "it, which learns from far fewer pictures.",
        choices=("plain", "projected"),
    )
    steer: str = opt(
        "",
        "Attributes of the pictures that the generator is to draw, as glasses,headwear=cap; from "
        "attributes.json in their folder, or of rendered faces. The heads of --critic projected "
        "see them and directions of w stand for them; in the end z decides them, in the pictures' "
        "shares. Snapshots on the way lack that.",
    )
    transfer: Path | None = opt(
        None, "Network file, or run of prior train, to start from; it may be of another size."
    )
    snapshot: float = opt(2.0, "Thousands of pictures between snapshots.", min=0)
    precision: str = opt("auto", "Number format.", choices=("auto", "float32", "bfloat16"))
    captured: bool = opt(
        True,
        "On a CUDA card, replay the steps as graphs, which is faster; by one process and without "
        "changed pictures.",
    )
    resume: Path | None = opt(None, "Run directory to continue.")

    def __post_init__(self) -> None:
        """Check the fields, and that widths and resolution fit each other."""
        super().__post_init__()
        self.augmentation()
        if attribute_names(self.steer) and self.critic != "projected":
            raise ConfigError("--steer shows attributes to heads; add --critic projected")
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


def build_critic(
    job: TrainPriorJob, network: Discriminator, c_dim: int, device: torch.device
) -> Critic:
    """Build the critic about a discriminator; its heads see conditions of width `c_dim`."""
    augmentation = build_augmentation(job, device)
    if job.critic == "plain":
        return Critic(network.to(device), r1_gamma=job.r1_gamma, augmentation=augmentation)
    backbone = load_lite0()
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        critic = ProjectedCritic(
            network,
            backbone,
            r1_gamma=job.r1_gamma,
            augmentation=augmentation,
            c_dim=c_dim,
        )
    critic.network.to(device)
    critic.projection.to(device)
    return critic


def build_trainer(job: TrainPriorJob, device: torch.device) -> PriorTrainer:
    """Build networks, critic and data source of the job.

    Labels condition the networks, unless those transferred have none. Attributes to steer by
    reach the critic's heads and move w; the networks have no condition then.
    """
    resumed = job.resume is not None and Run(job.resume).latest_checkpoint() is not None
    start = job.resume if resumed else job.transfer  # whose file may be gone by then
    given = None if start is None else read_given(start)
    config = job.generator_config(None if given is None else given.G_ema.config)
    if job.steer and config.c_dim > 0:
        raise ConfigError(
            f"--steer: {start} draws under conditions of its own; `prior convert --label CLASS` "
            "keeps one class of it, without a condition"
        )
    images = open_source(
        job.data,
        config.img_size,
        flips=job.augmentation().flips,
        labels=given is None or config.c_dim > 0,
        attributes=attribute_names(job.steer),
    )
    c_dim = 0 if job.steer else images.c_dim
    if given is not None and c_dim != config.c_dim:
        raise DataError(
            f"{job.data}: has labels of width {c_dim}, but {given.name} draws under conditions of "
            f"width {config.c_dim}; give a dataset.json with such labels"
        )
    config = dataclasses.replace(config, c_dim=c_dim)
    critic = job.discriminator_config(
        config, None if given is None or given.D is None else given.D.config
    )
    nets = build_networks(config, critic, given, seed=job.seed)
    return PriorTrainer(
        nets.G.to(device),
        build_critic(job, nets.D, images.c_dim, device),
        images,
        average=nets.G_ema,
        steering=build_steering(nets.G, images, job.seed).to(device) if job.steer else None,
        batch=job.batch,
        lr=job.lr,
        ema_kimg=job.batch * 10 / 32,  # the half-life grows with the batch
        ema_rampup=0.05 if job.transfer is None else None,
        path_weight=job.path_weight,
        precision=job.precision,
        captured=job.captured,
        seed=job.seed,
    )


def run_train_prior(job: TrainPriorJob, run: Run | None) -> dict[str, Any]:
    """Train, reporting to the run: metrics, sample sheets, snapshots that load as generators.

    The further processes of torchrun have no run: they share the batches and write nothing.
    """
    with process_group(pick_device(job.device)) as device:
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        trainer = build_trainer(job, device)
        checkpoint = None if job.resume is None else Run(job.resume).latest_checkpoint()
        if checkpoint is not None:
            trainer.load_state(torch.load(checkpoint, map_location=device, weights_only=True))
        reports = train_prior(trainer, kimg=job.kimg)
        if run is None:
            for _ in reports:
                pass
        else:
            record(job, trainer, reports, run)
    return {"kimg": trainer.images_seen / 1000, "generator": "generator.safetensors"}


def record(
    job: TrainPriorJob, trainer: PriorTrainer, reports: Iterator[PriorReport], run: Run
) -> None:
    """Go through the training, and write down what it reports."""
    if trainer.step_count:
        run.log(f"resumed at {trainer.images_seen / 1000:.1f} kimg")
    every = max(round(job.snapshot * 1000 / job.batch), 1)
    remaining = max(int(job.kimg * 1000) - trainer.images_seen, 0)
    steps = -(-remaining // job.batch)
    seconds: deque[float] = deque(maxlen=REPORT)
    losses: dict[str, float] = {}  # the latest of each; lazy ones are not of every step
    curves = Curves(run, trainer.step_count)
    for report in progress(reports, steps, "train prior", unit="img", scale=job.batch):
        seconds.append(report.seconds)
        losses |= report.losses
        if report.step % REPORT == 0:
            pace = job.batch * len(seconds) / sum(seconds)
            values = {"kimg": report.images / 1000, **losses, "img_per_s": pace}
            run.report({"step": report.step, **values})
            curves.scalars(report.step, values)
        if report.step % every == 0:
            snapshot(trainer, run, curves)
    snapshot(trainer, run, curves)
    curves.close()
    if trainer.steering_ema is not None:
        finish(trainer, trainer.steering_ema, run)


def snapshot(trainer: PriorTrainer, run: Run, curves: Curves) -> None:
    """Save the training's state, the averaged generator and a sheet of its samples.

    Raises:
        DivergenceError: A weight is not finite; the snapshots before stay.
    """
    trainer.check()
    run.checkpoint(trainer.step_count, trainer.state())
    write_generator(trainer, trainer.G_ema, run)
    sheet = sample_sheet(trainer)
    name = f"kimg-{trainer.images_seen / 1000:07.1f}.png"
    (run.path / "samples").mkdir(exist_ok=True)
    write_image(run.path / "samples" / name, sheet)
    curves.picture(trainer.step_count, "samples", sheet)


@torch.no_grad()
def sample_sheet(trainer: PriorTrainer, rows: int = 4, columns: int = 8) -> UInt8:
    """Draw the same latents each time, under the conditions of the first pictures."""
    num = rows * columns
    z = sample_z(num, trainer.G.z_dim, stream(trainer.seed, "prior/sheet")).to(trainer.device)
    c = trainer.images.labels(torch.arange(num) % len(trainer.images)).to(trainer.device)
    images = list(to_uint8(trainer.draw(z, c)))
    return sheets.grid([images[i : i + columns] for i in range(0, num, columns)])
