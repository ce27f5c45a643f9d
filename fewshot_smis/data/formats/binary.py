"""Masks of 0 and 255: black is background, white the object."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot_smis.data.classes import Classes
from fewshot_smis.data.formats.base import (
    LabelSet,
    Request,
    Shot,
    find_maps,
    image_folder,
    new_folder,
    pictures_by_name,
)
from fewshot_smis.data.images import open_image, write_image
from fewshot_smis.data.labels import Ids
from stylegan.errors import LabelError

SOFT = 0.1
"""The most of a mask that may be between black and white, as a smoothed edge is."""


def binary_classes() -> Classes:
    """Return background, black, and object, white."""
    return Classes(("background", "object"), ((0, 0, 0), (255, 255, 255)))


def read(request: Request) -> LabelSet:
    """Read masks below the source; values above 127 are the object, as in smoothed edges.

    Raises:
        DataError: There are no masks.
        LabelError: More than a smoothed edge is neither black nor white.
    """
    files = find_maps(request.source)
    pictures = pictures_by_name(image_folder(request.source, request.images, "images"))

    def shots() -> Iterator[Shot]:
        for path in files:
            yield Shot(path.stem, _mask(path), pictures.get(path.stem))

    return LabelSet(binary_classes(), shots())


def _mask(path: Path) -> Ids:
    grey = np.asarray(open_image(path).convert("L"))
    soft = float(((grey > 31) & (grey < 224)).mean())
    if soft > SOFT or (grey.max() > 0 and grey.max() < 224):
        raise LabelError(
            f"{path}: no mask of black and white (values up to {grey.max()}, {soft:.0%} between "
            "them); if its values are ids, use --format rgb-grey"
        )
    return (grey > 127).astype(np.int64)


def write(folder: Path, data: LabelSet) -> int:
    """Write masks, 255 where the class is 1, 0 elsewhere; return how many.

    Raises:
        LabelError: There are more than two classes.
    """
    if data.classes.num_classes != 2:
        raise LabelError(
            f"{data.classes.num_classes} classes, but a mask has two; merge them with "
            "`fewshot-smis labels remap`"
        )
    new_folder(folder)
    count = 0
    for shot in data.shots:
        write_image(folder / f"{shot.name}.png", ((shot.label == 1) * 255).astype(np.uint8))
        count += 1
    return count
