"""Few-shot data sets: a folder of images/ and labels/, with or without a classes.json."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot_smis.data.classes import Classes
from fewshot_smis.data.images import (
    SUFFIXES,
    list_images,
    natural_key,
    read_image,
    resize_image,
    to_tensor,
)
from fewshot_smis.data.labels import infer_classes, read_label, resize_label
from stylegan.errors import ConfigError, DataError, LabelError

_LOG = logging.getLogger(__name__)

ASPECT_TOLERANCE = 0.01
"""How much the aspect of a map may differ from that of its picture: 1 %."""


class Pair(NamedTuple):
    """One shot: a picture and its label map, each at its own size."""

    name: str
    image: Tensor  # [3,H,W] float32 in [-1,1]
    label: Tensor  # [h,w] int64 ids


class Pairs(NamedTuple):
    """The shots of a domain and their classes."""

    pairs: tuple[Pair, ...]
    classes: Classes

    @property
    def names(self) -> list[str]:
        """The names of the shots, their file names without ending."""
        return [pair.name for pair in self.pairs]

    def images(self, size: int | tuple[int, int]) -> Tensor:
        """Return the pictures [N,3,H,W] in [-1,1] at (height, width), or as squares."""
        return torch.cat([resize_image(pair.image[None], size) for pair in self.pairs])

    def labels(self, size: int | tuple[int, int]) -> Tensor:
        """Return the label maps [N,H,W] at (height, width), or as squares, by nearest sampling."""
        return torch.cat([resize_label(pair.label[None], size) for pair in self.pairs])


def files_by_name(folder: Path) -> dict[str, Path]:
    """Return the pictures of `folder` by their names without ending, in natural order.

    Raises:
        DataError: Two have the same name.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir(), key=lambda file: natural_key(file.name)):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        if file.stem in found:
            raise DataError(
                f"{folder}: both {found[file.stem].name} and {file.name} are named "
                f"'{file.stem}'; keep one of them"
            )
        found[file.stem] = file
    return found


def _root(folder: Path) -> Path:
    """Return the folder that holds images/ and labels/: `folder` itself, or its train/."""
    if not folder.is_dir():
        what = "a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; name a folder that holds images/ and labels/")
    for root in (folder, folder / "train"):
        if (root / "images").is_dir() and (root / "labels").is_dir():
            return root
    have = [name for name in ("images", "labels") if (folder / name).is_dir()]
    missing = " and ".join(f"{name}/" for name in ("images", "labels") if name not in have)
    raise DataError(
        f"{folder}: holds no {missing}; put the pictures into images/ and their label maps, under "
        "the same names, into labels/"
    )


def _partners(root: Path) -> list[tuple[str, Path, Path]]:
    """Return (name, picture, map) for each shot.

    Raises:
        DataError: There are none, or a file lacks its partner.
    """
    images, labels = files_by_name(root / "images"), files_by_name(root / "labels")
    alone = [f"images/{images[name].name}" for name in images if name not in labels]
    alone += [f"labels/{labels[name].name}" for name in labels if name not in images]
    if alone:
        counts = f"{len(images)} pictures and {len(labels)} label maps"
        raise DataError(
            f"{root}: {counts}; without a partner of the same name: {', '.join(alone)}; add the "
            "missing files or take these away"
        )
    if not images:
        raise DataError(
            f"{root}: images/ and labels/ are empty; put one to five labelled pictures there"
        )
    return [(name, images[name], labels[name]) for name in images]


def find_classes(folder: Path | str) -> Classes | None:
    """Return the classes of the nearest classes.json: in `folder`, or in the folder above it.

    Raises:
        DataError: A classes.json is there but cannot be used.
    """
    here = Path(folder).resolve()
    for place in (here, here.parent):
        if (place / "classes.json").is_file():
            return Classes.load(place / "classes.json")
    return None


def _classes(root: Path, maps: list[Path], classes: Classes | None, sparse: bool | None) -> Classes:
    """Return `classes`, those of a classes.json, or generic ones from the ids of all maps."""
    known = find_classes(root) if classes is None else classes
    if known is None:
        known = infer_classes((read_label(path, None) for path in maps), sparse)
        kind = "sparse marks (0 is unknown)" if known.sparse else "dense maps"
        _LOG.info("%s: no classes.json; taken for %s of %d classes", root, kind, known.num_classes)
    if sparse is not None and sparse != known.sparse:
        known = Classes(known.names, known.colors, sparse)
    return known


def _read_pair(name: str, image_path: Path, label_path: Path, classes: Classes) -> Pair:
    image = to_tensor(read_image(image_path))
    label = torch.from_numpy(read_label(label_path, classes))
    (height, width), (rows, columns) = image.shape[1:], label.shape
    if abs(width * rows / (height * columns) - 1) > ASPECT_TOLERANCE:
        raise LabelError(
            f"{label_path}: {columns} x {rows}, but its picture {image_path.name} is "
            f"{width} x {height}, of another shape; crop one as the other was cropped"
        )
    return Pair(name, image, label)


def load_pairs(
    folder: Path | str,
    *,
    limit: int | None = None,
    classes: Classes | None = None,
    sparse: bool | None = None,
) -> Pairs:
    """Read the shots of a folder that holds images/ and labels/ (or whose train/ does).

    A picture and its map have the same name but for the ending; they may differ in size, not in
    aspect. Shots come in natural order (2 before 10).

    Args:
        folder: The folder.
        limit: At most that many shots; all of them by default.
        classes: The classes; by default those of classes.json, in the folder or the one above,
            and without one generic classes, as many as the ids of all maps ask for.
        sparse: Whether id 0 is unknown and the maps hold marks; by default what the classes say,
            and without a classes.json what the maps look like.

    Raises:
        DataError: A folder or file is missing, unreadable or without its partner.
        LabelError: A map does not fit its classes or its picture, or is all unknown.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit {limit}: at least one shot is needed")
    root = _root(Path(folder))
    found = _partners(root)
    fitting = _classes(root, [path for _, _, path in found], classes, sparse)
    return Pairs(tuple(_read_pair(*entry, fitting) for entry in found[:limit]), fitting)


def load_label_maps(source: Path | str, classes: Classes | None = None) -> list[tuple[str, Tensor]]:
    """Read label maps alone: a file, a folder of files, or a folder that holds labels/.

    Returns (name, label [h,w] int64), in natural order, each at its own size. Without `classes`
    those of a classes.json beside the maps or above them count, then generic ones.

    Raises:
        DataError: A file is missing or unreadable, or the folder holds none.
        LabelError: A map does not fit the classes, or is all unknown.
    """
    source = Path(source)
    if source.is_dir():
        files = list_images(source / "labels" if (source / "labels").is_dir() else source)
    else:
        files = list_images(source)
    fitting = _classes(files[0].parent, files, classes, None)
    return [(file.stem, torch.from_numpy(read_label(file, fitting))) for file in files]
