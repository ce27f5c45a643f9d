"""`edit` and `learn-edit`: change photographs by their label maps, and keep the change by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from fewshot_smis.codes import load_codes, save_codes
from fewshot_smis.data import Classes, sheets
from fewshot_smis.data.images import to_uint8, write_image
from fewshot_smis.data.labels import colorize
from fewshot_smis.directions import learn_direction, load_direction, save_direction
from fewshot_smis.editing import (
    Change,
    EditSettings,
    blend,
    edit,
    feathered,
    find_change,
    seen_change,
)
from fewshot_smis.inversion import PRESETS, invert
from fewshot_smis.jobs.base import (
    counter,
    demo_model,
    labeler_of,
    open_prior,
    pick_device,
    prior_of,
    record_prior,
)
from fewshot_smis.jobs.edit_start import (
    Start,
    crops,
    is_start,
    load_start,
    read_changed_maps,
    read_subjects,
    save_start,
)
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.labelers import Labeler, label_samples, load_labeler
from fewshot_smis.metrics.editing import kept, miou_inside
from fewshot_smis.perceptual import PerceptualDistance, load_identity_proxy, load_perceptual
from fewshot_smis.runs import Run
from fewshot_smis.tuning import tune_prior
from stylegan import Prior, load_generator, prepare, save_generator
from stylegan.errors import ConfigError, DataError
from stylegan.seeding import stream

TUNED = "generator.safetensors"
EDITED = "edited.safetensors"
KEPT_EDITS = "edits"  # folder of the edits that were given a name


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditJob(Job):
    """Edit photographs by their label maps.

    Without --map or --apply the photographs are inverted and their maps written, to be changed
    and given back: edit --photo RUN --map FILE.
    """

    photo: Path = opt(
        None, "Photograph, folder of them, or run of `edit` to go on from.", required=True
    )
    labeler: Path | None = opt(None, "Run of `label`; by default the embedded faces'.")
    prior: Path | None = opt(None, "Generator file; by default the labeler's.")
    frames: Path | None = opt(None, "frames.json of `align cut`; else the middle is taken.")
    map: Path | None = opt(None, "Changed map; of several photographs a folder of them.")
    apply: str | None = opt(None, "Edit kept by `learn-edit`: its name, or its file.")
    strength: float = opt(1.0, "How much of it is applied; negative for its opposite.")
    inversion_steps: int = opt(PRESETS["default"].steps, "Steps of the inversion.", min=1)
    tune: int = opt(0, "Steps in which a copy of the generator learns each photograph.", min=0)
    steps: int = opt(EditSettings().steps, "Steps of the edit.", min=1)
    perceptual: str = opt("lite0", "Perceptual distance.", choices=("lite0", "none"))

    def __post_init__(self) -> None:
        """Check that one edit is asked for at most."""
        super().__post_init__()
        if self.map is not None and self.apply is not None:
            raise ConfigError("--map and --apply are two edits; give one of them")


class Kit(NamedTuple):
    """What photographs are edited with."""

    prior: Prior
    labeler: Labeler
    perceptual: PerceptualDistance | None
    identity: PerceptualDistance | None  # a proxy


class Edited(NamedTuple):
    """Edited codes and where their pictures changed."""

    ws: Tensor  # [N,L,D]
    change: Change
    asked: bool  # whether the change was painted, rather than found


def run_edit(job: EditJob, run: Run) -> dict[str, Any]:
    """Write the edited photographs at full size, their codes and a sheet; or maps to change."""
    device = pick_device(job.device)
    went_on = is_start(job.photo)
    labeler_file = labeler_of(job.photo if went_on else demo_model(), job.labeler)
    source = prior_of(job.photo if went_on else labeler_file, job.prior)
    kit = Kit(
        open_prior(source, device),
        load_labeler(labeler_file, device),
        *load_distances(job.perceptual, device),
    )
    check_square(kit.prior)
    run.save_inputs({"photo": job.photo, "labeler": labeler_file, "prior": source})
    record_prior(run, source)
    if went_on:
        start = load_start(job.photo, kit.labeler, kit.prior, device)
    else:
        start, kit = begin(job, run, kit, source)
    save_start(start, kit.labeler, run)
    if job.map is not None:
        return finish(run, start, kit, by_map(job, run, start, kit))
    if job.apply is not None:
        return finish(run, start, kit, by_direction(job, start, kit))
    write_image(run.path / "sheet.png", edit_sheet(start, kit))
    return {
        "photographs": start.names,
        "maps": str(run.path / "maps"),
        "next": f"change a map, then run: fewshot-smis edit --photo {run.path} --map CHANGED.png",
    }


def check_square(prior: Prior) -> None:
    """Raise ConfigError unless the pictures of `prior` are square, as the frames of faces are."""
    height, width = getattr(prior.config, "img_size", (1, 1))
    if height != width:
        raise ConfigError(
            f"this generator draws {width} x {height}, but a square is cut out of a photograph to "
            "be edited; use a generator of square pictures"
        )


def load_distances(
    name: str, device: torch.device
) -> tuple[PerceptualDistance | None, PerceptualDistance | None]:
    """Return the perceptual distance of that name and the identity proxy; None for "none"."""
    if name == "none":
        return None, None
    found = load_perceptual(name), load_identity_proxy()
    for distance in found:
        if isinstance(distance, torch.nn.Module):
            distance.to(device)
    return found


def begin(job: EditJob, run: Run, kit: Kit, source: Path) -> tuple[Start, Kit]:
    """Cut out and invert the photographs, tune the generator if asked to, and draw the maps."""
    prior = kit.prior
    size, device = prior.img_resolution, prior.mapping.w_avg.device
    subjects = read_subjects(job.photo, job.frames)
    images = crops(subjects, size).to(device)
    with counter(job.inversion_steps, "invert") as tick:
        ws = invert(
            images,
            prior,
            gen=stream(job.seed, "edit/invert", device),
            perceptual=kit.perceptual,
            steps=job.inversion_steps,
            on_report=tick,
        ).ws
    if job.tune:
        with counter(job.tune * len(images), "tune") as tick:
            tuned = tune_prior(
                load_generator(source, device=device),  # the prepared one has no weights to tune
                ws,
                images,
                gen=stream(job.seed, "edit/tune", device),
                steps=job.tune * len(images),
                perceptual=kit.perceptual,
                on_report=tick,
            )
        save_generator(tuned, run.path / TUNED)
        prior = prepare(tuned)
        record_prior(run, run.path / TUNED)
    maps = label_samples(kit.labeler, prior, ws, size)
    return Start(subjects, ws, maps), kit._replace(prior=prior)


def by_map(job: EditJob, run: Run, start: Start, kit: Kit) -> Edited:
    """Optimise the codes until their pictures have the changed maps."""
    size, device = kit.prior.img_resolution, start.ws.device
    new = read_changed_maps(Path(str(job.map)), start.names, kit.labeler.classes, size)
    change = find_change(start.maps, new)
    with counter(job.steps, "edit") as tick:

        def on_report(step: int, loss: Tensor) -> None:
            tick()
            if step % 10 == 0:
                run.report({"step": step, "loss": loss.tolist()})

        found = edit(
            crops(start.subjects, size).to(device),
            start.ws,
            change,
            kit.labeler,
            kit.prior,
            gen=stream(job.seed, "edit/spread", device),
            perceptual=kit.perceptual,
            identity=kit.identity,
            settings=EditSettings(steps=job.steps),
            on_report=on_report,
        )
    return Edited(found.ws, change, asked=True)


@torch.no_grad()
def by_direction(job: EditJob, start: Start, kit: Kit) -> Edited:
    """Add a kept edit to the codes, and see where that changes their pictures."""
    direction = load_direction(edit_file(str(job.apply), job.runs), kit.prior)
    ws = direction.apply(start.ws, job.strength)
    new = label_samples(kit.labeler, kit.prior, ws, kit.prior.img_resolution)
    before, after = (kit.prior.synthesis(codes).img for codes in (start.ws, ws))
    return Edited(ws, seen_change(start.maps, new, before, after), asked=False)


def edit_file(name: str, runs: Path) -> Path:
    """Return the file of a kept edit: `name` itself, or that name's in the folder of runs.

    Raises:
        DataError: There is neither.
    """
    kept_file = runs / KEPT_EDITS / f"{name}.safetensors"
    for path in (Path(name), kept_file):
        if path.is_file():
            return path
    raise DataError(f"--apply {name}: no such file, and no {kept_file}; keep one by learn-edit")


@torch.no_grad()
def finish(run: Run, start: Start, kit: Kit, edited: Edited) -> dict[str, Any]:
    """Blend the edited pictures into their photographs and write everything."""
    size, change = kit.prior.img_resolution, edited.change
    photos = crops(start.subjects, size).to(start.ws.device)
    img = kit.prior.synthesis(edited.ws).img.clamp(-1, 1)
    weight = feathered(change)
    (run.path / "edited").mkdir()
    for subject, face, share in zip(start.subjects, img, weight, strict=True):
        write_image(run.path / "edited" / f"{subject.name}.png", subject.with_face(face, share))
    save_codes(run.path / EDITED, edited.ws.cpu(), start.names)
    write_image(run.path / "sheet.png", edit_sheet(start, kit, edited))
    left = kept(img, photos, change, perceptual=kit.perceptual, identity=kit.identity)
    blended = kept(
        blend(photos, img, weight), photos, change, perceptual=kit.perceptual, identity=kit.identity
    )
    facts: dict[str, Any] = {"photographs": start.names, "pictures": str(run.path / "edited")}
    if edited.asked:
        found = label_samples(kit.labeler, kit.prior, edited.ws, size)
        score = miou_inside(found, change, kit.labeler.num_classes)
        facts["miou_inside"] = rounded(score)
    return {
        **facts,
        "rms_outside": rounded(left.pixels),
        "perceptual_outside": rounded(left.perceptual),
        "identity_proxy": rounded(blended.identity),
    }


def rounded(values: Tensor) -> list[float]:
    """Return numbers [N] for a result."""
    return [round(float(value), 4) for value in values]


@torch.no_grad()
def edit_sheet(start: Start, kit: Kit, edited: Edited | None = None) -> Any:
    """Draw photograph, inverted picture and map, then changed map, edited picture and blend."""
    classes, prior = kit.labeler.classes, kit.prior
    photos = crops(start.subjects, prior.img_resolution).to(start.ws.device)
    columns = {
        "photograph": to_uint8(photos),
        "inverted": to_uint8(prior.synthesis(start.ws).img),
        "its map": colorize(start.maps, classes),
    }
    if edited is not None:
        img = prior.synthesis(edited.ws).img.clamp(-1, 1)
        columns["changed map"] = colorize(edited.change.label, classes)
        columns["edited"] = to_uint8(img)
        columns["blended"] = to_uint8(blend(photos, img, feathered(edited.change)))
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return sheets.grid(rows, row_titles=start.names, col_titles=list(columns))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnEditJob(Job):
    """Keep the edit of a run by a name, to apply it to other photographs at any strength."""

    makes_run: ClassVar[bool] = False

    run: Path = opt(None, "Run of `edit` with a changed map.", required=True, argument=True)
    name: str = opt(None, "Name of the edit, for `edit --apply NAME`.", required=True)


def run_learn_edit(job: LearnEditJob, run: None) -> dict[str, Any]:
    """Write the direction to the folder of kept edits, beside the run."""
    if not (job.run / EDITED).is_file():
        raise DataError(f"{job.run}: holds no {EDITED}; give a run of `edit --map` or --apply")
    names, before = load_codes(job.run / "codes.safetensors")
    after = load_codes(job.run / EDITED)[1]
    path = job.run.resolve().parent / KEPT_EDITS / f"{job.name}.safetensors"
    if path.exists() or Path(job.name).name != job.name:
        fix = "exists already; choose another --name" if path.exists() else "a name has no folders"
        raise ConfigError(f"{path}: {fix}")
    meta = {
        "run": job.run.name,
        "photographs": names,
        "classes": list(Classes.load(job.run / "classes.json").names),
        "prior": json.loads((job.run / "prior.json").read_text())["sha256"],
    }
    save_direction(learn_direction(job.name, before, after, meta), path)
    return {"edit": job.name, "file": str(path), "photographs": names}
