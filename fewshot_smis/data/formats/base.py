"""What every format reads into and is written from: classes, and shots that come one by one."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewshot_smis.data.classes import Classes
from fewshot_smis.data.files import write_error
from fewshot_smis.data.images import SUFFIXES, UInt8, natural_key, write_image
from fewshot_smis.data.labels import Ids
from stylegan.errors import DataError


class Shot(NamedTuple):
    """A label map and its picture, if there is one: a file, or uint8 [H,W,3]."""

    name: str
    label: Ids  # [h,w] class ids, IGNORE where unknown
    image: Path | UInt8 | None


class LabelSet(NamedTuple):
    """The labelled pictures of some format; the shots are read as they are asked for."""

    classes: Classes
    shots: Iterable[Shot]


STROKE = 0.01
"""Width of lines and points, as part of the picture's shorter side."""


class Request(NamedTuple):
    """What a reader is asked for."""

    source: Path
    images: Path | None = None  # folder of the pictures, where it is not the format's usual one
    stroke: float = STROKE  # width of lines and points, as part of the picture's shorter side


def find_files(root: Path, pattern: str, what: str) -> list[Path]:
    """Return the files below `root` whose names match `pattern`, in natural order.

    Raises:
        DataError: There is no such folder, or none in it; says that `what` is missing.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the one that holds {what}")
    found = [p for p in root.rglob(pattern) if p.is_file() and p.name[0] != "."]
    if not found:
        raise DataError(f"{root}: no {what} in it or below it; check the folder and --format")
    return sorted(found, key=lambda p: natural_key(p.relative_to(root).as_posix()))


def find_maps(root: Path) -> list[Path]:
    """Return the label maps of a folder, of its labels/, or the file itself, in natural order."""
    if root.is_file():
        return [root]
    folder = root / "labels" if (root / "labels").is_dir() else root
    maps = find_files(folder, "*", "label maps")
    found = [p for p in maps if p.suffix.lower() in SUFFIXES and "images" not in p.parts]
    if not found:
        raise DataError(f"{folder}: holds no label maps; export them as PNG")
    return found


def pictures_by_name(
    root: Path | None, key: Callable[[str], str] = lambda stem: stem
) -> dict[str, Path]:
    """Return the pictures below `root`, None for none, by the `key` of their names."""
    if root is None or not root.is_dir():
        return {}
    files = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    return {key(p.stem): p for p in sorted(files)}


def image_folder(root: Path, images: Path | None, *usual: str) -> Path | None:
    """Return `images`, or the first of the `usual` folders in `root` or beside it that exists.

    Raises:
        DataError: `images` is no folder.
    """
    if images is not None:
        if not images.is_dir():
            raise DataError(f"{images}: no such folder; --images names the folder of the pictures")
        return images
    places = [base / name for base in (root, root.parent) for name in usual]
    return next((place for place in places if place.is_dir()), None)


def new_folder(folder: Path) -> Path:
    """Make an empty folder.

    Raises:
        DataError: It holds something, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists; remove it or name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def write_pairs(
    folder: Path, data: LabelSet, *, on_shot: Callable[[int], object] | None = None
) -> int:
    """Write shots as a folder of the project's own: images/, labels/ and classes.json.

    Maps are grey PNGs of class ids; picture files are copied as they are. Without pictures there
    is no images/. Returns how many shots there are.

    Args:
        folder: A new or empty folder.
        data: The shots.
        on_shot: Called with 1 after each.

    Raises:
        DataError: The folder holds something, two shots have one name, or nothing was read.
    """
    labels, images = new_folder(folder) / "labels", folder / "images"
    labels.mkdir()
    count = 0
    for shot in data.shots:
        target = labels / f"{shot.name}.png"
        if target.exists():
            raise DataError(f"{folder}: two maps are named '{shot.name}'; convert them separately")
        write_image(target, shot.label.astype(np.uint8))
        _write_picture(images, shot)
        count += 1
        if on_shot is not None:
            on_shot(1)
    if not count:
        raise DataError(f"{folder}: no labelled picture was found to write into it")
    data.classes.save(folder / "classes.json")
    return count


def _write_picture(images: Path, shot: Shot) -> None:
    if shot.image is None:
        return
    images.mkdir(exist_ok=True)
    if isinstance(shot.image, Path):
        target = images / f"{shot.name}{shot.image.suffix.lower()}"
        try:
            shutil.copyfile(shot.image, target)
        except OSError as error:
            raise write_error(target, error) from error
    else:
        write_image(images / f"{shot.name}.png", shot.image)
