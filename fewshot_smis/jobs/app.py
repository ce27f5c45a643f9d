"""`app`: a page to draw on, served from this machine."""

import dataclasses
import socket
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import click
import torch

from fewshot_smis.app.studio import Model, Studio
from fewshot_smis.data import Classes, load_label_maps
from fewshot_smis.jobs.base import DEMO, demo_model, labeler_of, pick_device, prior_of
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.jobs.train import open_model
from fewshot_smis.labelers import Labeler, load_labeler
from fewshot_smis.perceptual import PerceptualDistance, load_perceptual
from fewshot_smis.runs import sha256
from stylegan.errors import BackendError, ConfigError

MOST_REQUESTS = 256  # at once; more are answered 503
LOOPBACK = ("localhost", "127.0.0.1", "::1")
EXAMPLES = (
    DEMO / "maps",
    DEMO / "sparse" / "maps_landmarks",
    DEMO / "sparse" / "maps_scribbles",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AppJob(Job):
    """Draw in the browser: paint label maps, and watch the pictures follow.

    The page is served to this machine alone, unless --host says otherwise.
    """

    makes_run: ClassVar[bool] = False

    run: Path | None = opt(None, "Run of `train`; by default the embedded faces model.")
    prior: Path | None = opt(None, "Generator file; by default the one trained with.")
    host: str = opt("127.0.0.1", "Address to serve at; 0.0.0.0 lets the whole network in.")
    port: int = opt(7860, "Port to serve at; 0 takes a free one.", min=0, max=65535)
    waiting: int = opt(32, "Strokes that may wait before others are refused.", min=1)
    perceptual: str = opt(
        "lite0", "Perceptual distance for photographs.", choices=("lite0", "none")
    )
    browser: bool = opt(False, "Open the page in the browser.")


def run_app(job: AppJob, _: None) -> dict[str, Any]:
    """Serve the page until interrupted.

    Raises:
        BackendError: The server's packages are missing.
    """
    try:
        import uvicorn

        from fewshot_smis.app.desk import Desk
        from fewshot_smis.app.server import Workshop, build_app
        from fewshot_smis.app.trainings import Trainings
    except ImportError as error:
        raise BackendError(
            f"the app needs {error.name}: pip install 'fewshot-smis[app]'"
        ) from error
    device = pick_device(job.device)
    distance = load_perceptual(job.perceptual)
    if isinstance(distance, torch.nn.Module):
        distance = distance.to(device)
    source = job.run or demo_model()
    prior = prior_of(source, job.prior)
    on = ("--device", job.device)
    options = {"invert": (*on, "--perceptual", job.perceptual), "label": on, "train": on}
    with listening(job.host, job.port) as place:
        studio = open_studio(source, job.prior, device, distance)
        desk = Desk(most_waiting=job.waiting)
        trainings = Trainings(job.runs / "app", studio, prior, sha256(prior), options=options)
        hosts = LOOPBACK if job.host in LOOPBACK else ("*",)
        app = build_app(Workshop(studio, desk, trainings), hosts)
        config = uvicorn.Config(
            app, log_level="warning", lifespan="off", limit_concurrency=MOST_REQUESTS
        )
        address = f"http://{job.host}:{place.getsockname()[1]}/"
        click.echo(f"draw at {address} (Ctrl+C ends it)")
        if job.browser:
            webbrowser.open(address)
        try:
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[place])
        finally:
            trainings.close()
            desk.close()
    return {"served": address}


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; who comes before the server is ready waits for it.

    Raises:
        ConfigError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot serve at {host}, port {port} ({error.strerror}); choose another --port, or 0 "
            "for a free one"
        ) from error


def open_studio(
    run: Path,
    prior: Path | None,
    device: torch.device,
    perceptual: PerceptualDistance | None,
    name: str | None = None,
) -> Studio:
    """Open the run of a training, or the demo's model, to draw with."""
    encoder, generator = open_model(run, prior, device)
    classes = Classes.load(run / "classes.json")
    title = name or ("synthetic faces" if run == demo_model() else run.name)
    model = Model(
        title, encoder, generator, classes, find_labeler(run, device), find_examples(classes)
    )
    return Studio(model, perceptual=perceptual)


def find_labeler(run: Path, device: torch.device) -> Labeler | None:
    """Return the labeler that a run was trained with, None if it is gone."""
    try:
        file = labeler_of(run, None)
    except ConfigError:
        return None
    return load_labeler(file, device)


def find_examples(classes: Classes) -> tuple[tuple[str, torch.Tensor], ...]:
    """Return the shipped maps of the same classes."""
    for folder in EXAMPLES:
        if Classes.load(folder / "classes.json") == classes:
            return tuple(load_label_maps(folder, classes))
    return ()
