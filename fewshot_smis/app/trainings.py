"""Train from labelled pictures while others draw: the commands themselves, in another process.

A training is a folder: `pairs/` with pictures, maps and classes.json, then the runs `invert/`,
`label/` and `train/`, exactly as the command line makes them. One runs at a time, the others wait.
Whatever is stopped is resumed from its last checkpoint, after a restart of the app as well.
"""

import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from encoders import load_encoder
from fewshot_smis.app.desk import BusyError
from fewshot_smis.app.studio import Model, Studio
from fewshot_smis.codes import save_codes
from fewshot_smis.data import IGNORE, Classes, write_image
from fewshot_smis.data.files import read_json, write_json
from fewshot_smis.data.formats.palette import write_palette
from fewshot_smis.data.images import UInt8
from fewshot_smis.data.pairs import load_label_maps
from fewshot_smis.labelers import load_labeler
from fewshot_smis.runs import Run
from stylegan.errors import ConfigError, FewshotError, LabelError

MOST_PICTURES = 5
MOST_STEPS = 200_000
MOST_POINTS = 120  # of a loss curve on the page
STAGES = {
    "invert": "finding the pictures in the generator",
    "label": "learning the labels",
    "train": "training the encoder",
}
RECIPES: dict[str, tuple[str, ...]] = {
    # as `demo` trains: minutes on a processor
    "quick": ("--kind", "backbone_wplus", "--trunk", "light"),
    # with the paper's encoder: hours, and a GPU
    "full": (),
}


class Shot(NamedTuple):
    """A picture and its map."""

    picture: UInt8  # [H,W,3]
    label: torch.Tensor  # [h,w] int64
    code: torch.Tensor | None  # [L,D] of a sample, None for a photograph


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training is to do.

    Attributes:
        title: What the page calls the model.
        classes: The classes of the maps.
        steps: Training steps of the encoder.
        recipe: One of RECIPES.
    """

    title: str
    classes: Classes
    steps: int = 600
    recipe: str = "quick"

    def __post_init__(self) -> None:
        """Check the values."""
        if not 1 <= self.steps <= MOST_STEPS:
            raise ConfigError(f"{self.steps} training steps; ask for 1 to {MOST_STEPS:,}")
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe '{self.recipe[:16]}'; choose from {', '.join(RECIPES)}")
        if not 1 <= len(self.title.strip()) <= 40:
            raise ConfigError("name the model, in at most 40 letters")


class Training:
    """One training: its folder, and how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.id = folder, folder.name
        about = read_json(folder / "training.json")
        self.title, self.steps, self.recipe = about["title"], about["steps"], about["recipe"]
        self.prior = about["prior"]
        self.waits, self.error = False, ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def done(self) -> bool:
        """Whether its model can be drawn with."""
        return (self.folder / "train" / "result.json").is_file()

    @property
    def state(self) -> str:
        """One of "done", "running", "waiting", "failed" and "stopped"."""
        if self.done:
            return "done"
        if self.process is not None:
            return "running"
        if self.waits:
            return "waiting"
        return "failed" if self.error else "stopped"

    @property
    def stages(self) -> tuple[str, ...]:
        """Its commands, in order; samples of the prior need no inversion."""
        known = (self.folder / "pairs" / "codes.safetensors").is_file()
        return tuple(stage for stage in STAGES if not (known and stage == "invert"))

    @property
    def stage(self) -> str:
        """The first command that has not finished, the last one when all have."""
        left = [s for s in self.stages if not (self.folder / s / "result.json").is_file()]
        return left[0] if left else self.stages[-1]

    def told(self) -> dict[str, Any]:
        """Return what the page shows, as JSON values."""
        metrics = self._metrics()
        total = self.steps if self.stage == "train" else self._inversion_steps()
        curve = [float(m["loss"]) for m in metrics if isinstance(m["loss"], float)]
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state,
            "stage": STAGES[self.stage],
            "step": metrics[-1]["step"] if metrics else 0,
            "steps": total,
            "curve": curve[:: len(curve) // MOST_POINTS + 1] if self.stage == "train" else [],
            "sheet": None if self.sheet() is None else f"{self.stage}-{len(metrics)}",
            "error": self.error,
        }

    def sheet(self) -> Path | None:
        """Return the newest sheet of pictures, None before the first."""
        samples = sorted((self.folder / "train" / "samples").glob("*.png"))
        others = [self.folder / s / "sheet.png" for s in ("label", "invert")]
        return next((p for p in (*samples[::-1], *others) if p.is_file()), None)

    def command(self, stage: str, prior: Path, options: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the command line of a stage: from the start, or from where it stopped."""
        run = self.folder / stage
        if (run / "meta.json").is_file():
            if stage != "label":
                return [stage, "--resume", str(run)]
            shutil.rmtree(run)
        pairs = self.folder / "pairs"
        codes = self.folder / "invert" if "invert" in self.stages else pairs
        given = {
            "invert": ("--images", pairs, "--every", 20, "--prior", prior),
            "label": ("--pairs", pairs, "--codes", codes, "--prior", prior, "--samples", 8),
            "train": (
                *("--labeler", self.folder / "label", "--steps", self.steps),
                *("--every", max(self.steps // 8, 10), *RECIPES[self.recipe]),
            ),
        }[stage]
        return [stage, *map(str, given), *options.get(stage, ()), "--out", str(run)]

    def _inversion_steps(self) -> int:
        config = self.folder / "invert" / "config.json"
        return int(read_json(config).get("steps") or 400) if config.is_file() else 0

    def _metrics(self) -> list[dict[str, Any]]:
        run = self.folder / self.stage
        found = Run(run).metrics() if run.is_dir() else []
        if self.stage != "train":
            return [{"step": m["step"], "loss": None} for m in found]
        return found


class Trainings:
    """All trainings of one prior, and the thread that carries them out one after another.

    Args:
        root: Folder of the trainings; those of an earlier day are found there again.
        base: The studio whose prior they share.
        prior: The prior's file.
        prior_hash: Its SHA-256: trainings of another prior are left alone.
        options: More options of a command, as {"invert": ("--device", "cpu")}.
        most_waiting: Trainings that may wait at once.
    """

    def __init__(
        self,
        root: Path,
        base: Studio,
        prior: Path,
        prior_hash: str,
        *,
        options: Mapping[str, Sequence[str]] | None = None,
        most_waiting: int = 4,
    ) -> None:
        self.root, self.base, self.prior, self.hash = root, base, prior, prior_hash
        self.options, self.most_waiting = options or {}, most_waiting
        files = sorted(root.glob("*/training.json")) if root.is_dir() else []
        every = [Training(file.parent) for file in files]
        self._known = {t.id: t for t in every if t.prior == prior_hash}
        self._studios: dict[str, Studio] = {}
        self._queue: list[Training] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="trainings", daemon=True)
        self._thread.start()

    def start(self, plan: Plan, shots: Sequence[Shot]) -> Training:
        """Write the pairs of a new training and line it up.

        Raises:
            ConfigError: There are no pictures, or too many.
            LabelError: A map has nothing labelled.
            BusyError: Too many trainings wait.
        """
        if not 1 <= len(shots) <= MOST_PICTURES:
            raise ConfigError(f"{len(shots)} pictures; label 1 to {MOST_PICTURES}")
        blank = 0 if plan.classes.sparse else IGNORE
        for number, shot in enumerate(shots, 1):
            if bool((shot.label == blank).all()):
                raise LabelError(f"picture {number} has no labels yet; paint its map first")
        self._check_room()
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        training = write_training(self.root / name, plan, shots, self.hash)
        with self._changed:
            self._known[training.id] = training
        self.resume(training)
        return training

    def get(self, name: str) -> Training:
        """Return the training of that name.

        Raises:
            ConfigError: There is none.
        """
        if name not in self._known:
            raise ConfigError(f"there is no training '{name[:32]}'; reload the page")
        return self._known[name]

    def told(self) -> list[dict[str, Any]]:
        """Return what the page shows of every training, the newest first."""
        return [training.told() for training in reversed(self._known.values())]

    def resume(self, training: Training) -> None:
        """Line a training up to go on from where it stopped; nothing happens to a finished one.

        Raises:
            BusyError: Too many trainings wait.
        """
        with self._changed:
            if training.state in ("stopped", "failed"):
                self._check_room()
                training.waits, training.error = True, ""
                self._queue.append(training)
                self._changed.notify()

    def cancel(self, training: Training) -> None:
        """Stop a training; its last checkpoint stays."""
        with self._changed:
            if training in self._queue:
                self._queue.remove(training)
            training.waits = False
            if training.process is not None:
                training.process.terminate()

    def studios(self) -> dict[str, Studio]:
        """Return the finished models, opened; of one that cannot be, `error` says why."""
        for training in list(self._known.values()):
            if training.done and training.id not in self._studios and not training.error:
                try:
                    self._studios[training.id] = open_trained(training, self.base)
                except FewshotError as error:
                    training.error = str(error)
        return dict(self._studios)

    def close(self) -> None:
        """Stop what runs, and the thread."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            running = [t for t in self._known.values() if t.process is not None]
            self._changed.notify()
        for training in running:
            self.cancel(training)
        self._thread.join()

    def _check_room(self) -> None:
        if len(self._queue) >= self.most_waiting:
            raise BusyError(f"{len(self._queue)} trainings are waiting; try again later")

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._queue))
                if self._closed:
                    return
                training = self._queue.pop(0)
            for stage in training.stages:
                if not (training.folder / stage / "result.json").is_file():
                    self._carry_out(training, stage)
                if training.error or not training.waits:
                    break
            training.waits = False

    def _carry_out(self, training: Training, stage: str) -> None:
        """Run one command to its end; what it says goes to log.txt."""
        log = training.folder / "log.txt"
        words = training.command(stage, self.prior, self.options)
        with log.open("ab") as file, self._changed:
            if self._closed or not training.waits:
                return
            training.process = subprocess.Popen(
                [sys.executable, "-m", "fewshot_smis", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            if hasattr(os, "setpriority"):  # whoever draws comes first
                own = os.getpriority(os.PRIO_PROCESS, 0)
                os.setpriority(os.PRIO_PROCESS, training.process.pid, min(own + 4, 19))
        code = training.process.wait()
        with self._changed:
            training.process = None
            if code != 0 and training.waits:  # nobody stopped it
                training.error = last_words(log)


def last_words(log: Path) -> str:
    """Return the last line that a command wrote, without what click puts before it."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else "it ended without a word"


def write_training(folder: Path, plan: Plan, shots: Sequence[Shot], prior: str) -> Training:
    """Write a training's pairs, codes where all are known, and training.json last."""
    pairs = folder / "pairs"
    for name in ("images", "labels"):
        (pairs / name).mkdir(parents=True)
    for number, shot in enumerate(shots, 1):
        write_image(pairs / "images" / f"{number}.png", shot.picture)
        write_palette(pairs / "labels" / f"{number}.png", shot.label.numpy(), plan.classes)
    plan.classes.save(pairs / "classes.json")
    codes = [shot.code.cpu() for shot in shots if shot.code is not None]
    if len(codes) == len(shots):
        names = [str(number) for number in range(1, len(shots) + 1)]
        save_codes(pairs / "codes.safetensors", torch.stack(codes), names)
    about = {"title": plan.title.strip(), "steps": plan.steps, "recipe": plan.recipe}
    write_json(folder / "training.json", {**about, "prior": prior})
    return Training(folder)


def open_trained(training: Training, base: Studio) -> Studio:
    """Open the model of a finished training, on the prior of `base`."""
    run = training.folder / "train"
    classes = Classes.load(run / "classes.json")
    model = Model(
        name=training.title,
        encoder=load_encoder(run / "encoder.safetensors", device=base.device),
        prior=base.model.prior,
        classes=classes,
        labeler=load_labeler(run / "labeler.safetensors", base.device),
        examples=tuple(load_label_maps(training.folder / "pairs" / "labels", classes)),
    )
    return Studio(model, perceptual=base.perceptual, photo=base.photo)
