"""Where an edit starts: photographs cut out, inverted and labelled, kept in a run to go on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewshot_smis.codes import load_codes, save_codes
from fewshot_smis.data import Classes
from fewshot_smis.data.alignment import Frame, crop_frame, paste_back, read_frame
from fewshot_smis.data.files import read_json, write_json
from fewshot_smis.data.formats.palette import write_palette
from fewshot_smis.data.images import (
    UInt8,
    list_images,
    read_image,
    to_tensor,
    to_uint8,
    write_image,
)
from fewshot_smis.data.labels import read_label, resize_label
from fewshot_smis.labelers import Labeler
from fewshot_smis.runs import Run
from stylegan import Prior
from stylegan.errors import ConfigError, DataError

FRAMES = "frames.json"  # a run of `edit` is known by it


class Subject(NamedTuple):
    """A photograph and the square of it that is edited."""

    name: str
    photo: UInt8  # [H,W,3]
    frame: Frame

    def crop(self, size: int) -> Tensor:
        """Return the square [1,3,size,size] in [-1,1]."""
        return to_tensor(crop_frame(self.photo, self.frame, size))[None]

    def with_face(self, face: Tensor, weight: Tensor) -> UInt8:
        """Blend `weight` [S,S] of `face` [3,S,S] back into the photograph, uint8 [H,W,3]."""
        mask = weight.cpu().numpy().astype(np.float64)
        return paste_back(self.photo, to_uint8(face), self.frame, mask=mask, feather=0.0)


class Start(NamedTuple):
    """What an edit starts from."""

    subjects: list[Subject]
    ws: Tensor  # [N,L,D]
    maps: Tensor  # [N,S,S] int64, the labeler's

    @property
    def names(self) -> list[str]:
        """The names of the photographs."""
        return [subject.name for subject in self.subjects]


def centered_frame(photo: UInt8) -> Frame:
    """Return the largest square in the middle of `photo` [H,W,3]."""
    height, width = photo.shape[:2]
    return Frame(np.array([width, height]) / 2, np.array([1.0, 0.0]), min(height, width) / 2)


def read_subjects(source: Path, frames: Path | None) -> list[Subject]:
    """Read the photographs of a file or folder, and where in them the faces are.

    `frames` is a JSON file of frames by name, as `align cut` writes it: a photograph is edited
    at each of its faces for itself. Without, the middle of each photograph is taken.

    Raises:
        DataError: A file is missing or unreadable, or a photograph has no frame.
    """
    known = None if frames is None else read_json(frames)
    if known is not None and not isinstance(known, Mapping):
        raise DataError(f"{frames}: expected an object of frames by the names of the photographs")
    found = []
    for path in list_images(source):
        photo = read_image(path)
        if known is None:
            found.append(Subject(path.stem, photo, centered_frame(photo)))
            continue
        faces = {
            name: value for name, value in known.items() if _photo_of(name, value) == path.stem
        }
        if not faces:
            raise DataError(f"{frames}: no face of '{path.stem}'; align the photograph first")
        found += [Subject(name, photo, read_frame(value)) for name, value in faces.items()]
    return found


def _photo_of(name: str, frame: Any) -> str:
    """Return the name of the photograph that a frame is of, by default its own."""
    photo = frame.get("photo") if isinstance(frame, Mapping) else None
    return name if photo is None else Path(photo).stem


def is_start(path: Path) -> bool:
    """Tell whether `path` is a run of `edit` that can be gone on from."""
    return (path / FRAMES).is_file() and (path / "maps").is_dir()


def save_start(start: Start, labeler: Labeler, run: Run) -> None:
    """Keep photographs, frames, codes and maps in the run; the maps are there to be changed."""
    for folder in ("images", "maps"):
        (run.path / folder).mkdir()
    labeler.classes.save(run.path / "classes.json")
    for subject, label in zip(start.subjects, start.maps.cpu().numpy(), strict=True):
        write_image(run.path / "images" / f"{subject.name}.png", subject.photo)
        write_palette(run.path / "maps" / f"{subject.name}.png", label, labeler.classes)
    frames = {subject.name: subject.frame.to_json() for subject in start.subjects}
    write_json(run.path / FRAMES, frames)
    save_codes(run.path / "codes.safetensors", start.ws.cpu(), start.names)


def load_start(path: Path, labeler: Labeler, prior: Prior, device: torch.device) -> Start:
    """Read what `save_start` kept in the run at `path`.

    Raises:
        DataError: Photographs and codes do not belong together.
        ShapeError: The codes are of another prior.
    """
    subjects = read_subjects(path / "images", path / FRAMES)
    names, ws = load_codes(path / "codes.safetensors", prior)
    if names != [subject.name for subject in subjects]:
        raise DataError(f"{path}: its photographs are not those of its codes; start a new edit")
    maps = [read_label(path / "maps" / f"{name}.png", labeler.classes) for name in names]
    stacked = torch.from_numpy(np.stack(maps)).to(device)
    return Start(subjects, ws.to(device), stacked)


def crops(subjects: list[Subject], size: int) -> Tensor:
    """Return the squares that are edited, [N,3,size,size] in [-1,1]."""
    return torch.cat([subject.crop(size) for subject in subjects])


def read_changed_maps(path: Path, names: list[str], classes: Classes, size: int) -> Tensor:
    """Return the changed maps [N,size,size]: a file for one photograph, a folder by their names.

    Raises:
        ConfigError: One file for several photographs.
        DataError: A file is missing.
        LabelError: A file is no map of these classes.
    """
    if path.is_dir():
        files = {file.stem: file for file in list_images(path)}
        missing = [name for name in names if name not in files]
        if missing:
            raise DataError(f"{path}: no changed map of {', '.join(missing)}; name it as the photo")
        wanted = [files[name] for name in names]
    elif len(names) == 1:
        wanted = [path]
    else:
        raise ConfigError(f"--map {path}: one map for {len(names)} photographs; give a folder")
    maps = [torch.from_numpy(read_label(file, classes)) for file in wanted]
    return torch.cat([resize_label(label[None], size) for label in maps])
