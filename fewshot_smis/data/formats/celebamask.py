"""CelebAMask-HQ: one white mask for each part of a face, `00007_l_brow.png`, in folders 0 to 14."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot_smis.data.classes import Classes
from fewshot_smis.data.formats.base import (
    LabelSet,
    Request,
    Shot,
    find_files,
    image_folder,
    new_folder,
    pictures_by_name,
)
from fewshot_smis.data.images import open_image, write_image
from fewshot_smis.data.labels import Ids
from stylegan.errors import DataError, LabelError

_TEXT = (
    "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r "
    "neck_l neck cloth"
)
PARTS = tuple(_TEXT.split())
"""The endings of the files, in the order of the ids from 1 on; where masks meet, the later wins."""

FOLDER = 2000
"""So many faces are in each of the numbered folders."""


def read(request: Request) -> LabelSet:
    """Read part masks anywhere below the source, each face put together as a map of 19 classes.

    Pictures are those of CelebA-HQ-img/ in or beside the source, named by their numbers.

    Raises:
        DataError: There are no part masks.
        LabelError: A mask is of an unknown part, or the masks of a face differ in size.
    """
    faces: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in find_files(request.source, "*_*.png", "part masks such as 00000_skin.png"):
        number, _, part = path.stem.partition("_")
        if part not in PARTS:
            raise LabelError(f"{path}: no part is called '{part}'; they are {', '.join(PARTS)}")
        faces[_plain(number)][part] = path
    folder = image_folder(request.source, request.images, "CelebA-HQ-img", "images")
    pictures = pictures_by_name(folder, _plain)

    def shots() -> Iterator[Shot]:
        for name, parts in faces.items():
            yield Shot(name, _compose(parts), pictures.get(name))

    return LabelSet(Classes.CELEBAMASK, shots())


def _plain(number: str) -> str:
    """Return a number without leading zeros, as the pictures are named."""
    return number.lstrip("0") or "0" if number.isdecimal() else number


def _compose(parts: dict[str, Path]) -> Ids:
    ids: Ids | None = None
    for value, part in enumerate(PARTS, 1):
        if part not in parts:
            continue
        mask = np.asarray(open_image(parts[part]).convert("L")) > 127
        if ids is None:
            ids = np.zeros(mask.shape, np.int64)
        if mask.shape != ids.shape:
            raise LabelError(
                f"{parts[part]}: {mask.shape[1]} x {mask.shape[0]}, but the face's other masks are "
                f"{ids.shape[1]} x {ids.shape[0]}; copy the file again"
            )
        ids[mask] = value
    if ids is None:
        raise DataError("a face without masks; copy its files again")
    return ids


def write(folder: Path, data: LabelSet) -> int:
    """Write part masks into numbered folders; return how many faces there were.

    Raises:
        LabelError: The classes are not the 19 of CelebAMask-HQ, or a name is not a number.
    """
    if data.classes.num_classes != len(PARTS) + 1:
        raise LabelError(
            f"{data.classes.num_classes} classes, but CelebAMask-HQ has 19; bring the maps to them "
            "with `fewshot-smis labels remap`"
        )
    new_folder(folder)
    count = 0
    for shot in data.shots:
        if not shot.name.isdecimal():
            raise LabelError(f"{shot.name}: CelebAMask-HQ numbers its faces; rename it, to 0 say")
        place = folder / str(int(shot.name) // FOLDER)
        place.mkdir(exist_ok=True)
        for value, part in enumerate(PARTS, 1):
            mask = shot.label == value
            if mask.any():
                target = place / f"{int(shot.name):05d}_{part}.png"
                write_image(target, (mask * 255).astype(np.uint8))
        count += 1
    return count
