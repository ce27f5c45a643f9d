"""Cityscapes: `*_gtFine_labelIds.png` or `*_gtFine_color.png`, pictures `*_leftImg8bit.png`.

The classes are the 28 that have a colour of their own: ids 0 to 4 are unknown, pole groups are
poles and licence plates cars, so that ids and colour maps read alike.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot_smis.data.classes import IGNORE, Classes
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
from fewshot_smis.data.labels import Ids, pack_colors, read_stored
from fewshot_smis.data.remap import remap_ids
from stylegan.errors import DataError, LabelError

_TABLE = (  # the data set's id, name, colour
    "5 dynamic 6f4a00, 6 ground 510051, 7 road 804080, 8 sidewalk f423e8, 9 parking faaaa0, "
    "10 rail_track e6968c, 11 building 464646, 12 wall 66669c, 13 fence be9999, "
    "14 guard_rail b4a5b4, 15 bridge 966464, 16 tunnel 96785a, 17 pole 999999, "
    "19 traffic_light faaa1e, 20 traffic_sign dcdc00, 21 vegetation 6b8e23, 22 terrain 98fb98, "
    "23 sky 4682b4, 24 person dc143c, 25 rider ff0000, 26 car 00008e, 27 truck 000046, "
    "28 bus 003c64, 29 caravan 00005a, 30 trailer 00006e, 31 train 005064, 32 motorcycle 0000e6, "
    "33 bicycle 770b20"
)
_ROWS = [row.split() for row in _TABLE.split(", ")]
IDS = tuple(int(number) for number, _, _ in _ROWS)
"""The data set's id of each class."""

COLORS = tuple(int(color, 16) for _, _, color in _ROWS)
"""Its colour, 0xRRGGBB."""

_POLE, _CAR = IDS.index(17), IDS.index(26)
_FROM_ID = {
    **dict.fromkeys(range(5), IGNORE),
    **{number: i for i, number in enumerate(IDS)},
    **{18: _POLE, -1: _CAR, 255: _CAR},  # a licence plate, -1, is 255 in 8 bits
}
_FROM_COLOR = {0: IGNORE, **{color: i for i, color in enumerate(COLORS)}}


def cityscapes_classes() -> Classes:
    """Return the 28 classes."""
    rgb = [tuple(bytes.fromhex(color)) for _, _, color in _ROWS]
    return Classes(tuple(name for _, name, _ in _ROWS), tuple((r, g, b) for r, g, b in rgb))


def _key(stem: str) -> str:
    """Return what the files of one picture share: city, sequence and frame."""
    return re.sub(r"(_gt(Fine|Coarse))?_(labelIds|color|leftImg8bit)$", "", stem)


def _from_ids(path: Path) -> Ids:
    stored = read_stored(path)
    if stored.ids is None:
        raise LabelError(f"{path}: colours, not labelIds; convert with --format cityscapes-color")
    return _known(remap_ids(stored.ids, {**_missing(stored.ids, _FROM_ID), **_FROM_ID}), path)


def _from_colors(path: Path) -> Ids:
    packed = pack_colors(np.asarray(open_image(path).convert("RGB")))
    return _known(remap_ids(packed, {**_missing(packed, _FROM_COLOR), **_FROM_COLOR}), path)


def _missing(values: Ids, table: dict[int, int]) -> dict[int, int]:
    return {int(v): -1 for v in np.unique(values) if int(v) not in table}


def _known(ids: Ids, path: Path) -> Ids:
    strange = int((ids < 0).sum())
    if strange:
        raise LabelError(
            f"{path}: {strange} pixels are no label of Cityscapes; is it a labelTrainIds or "
            "instanceIds file, or resized? Take the original labelIds or color file"
        )
    return ids


def _read(request: Request, ending: str, kind: str) -> LabelSet:
    files = find_files(request.source, f"*_{ending}.png", f"files *_{ending}.png")
    folder = image_folder(request.source, request.images, "leftImg8bit", "images")
    pictures = pictures_by_name(folder, _key)
    decode = _from_ids if kind == "ids" else _from_colors

    def shots() -> Iterator[Shot]:
        for path in files:
            yield Shot(_key(path.stem), decode(path), pictures.get(_key(path.stem)))

    return LabelSet(cityscapes_classes(), shots())


def read_ids(request: Request) -> LabelSet:
    """Read `*_labelIds.png` below the source; pictures are in leftImg8bit/, in or beside it.

    Raises:
        DataError: There are none.
        LabelError: A file holds other ids.
    """
    return _read(request, "labelIds", "ids")


def read_colors(request: Request) -> LabelSet:
    """Read `*_color.png` below the source; pictures are in leftImg8bit/, in or beside it.

    Raises:
        DataError: There are none.
        LabelError: A file holds other colours.
    """
    return _read(request, "color", "colors")


def write(folder: Path, data: LabelSet) -> int:
    """Write `*_gtFine_labelIds.png` and `*_gtFine_color.png`; return how many pictures.

    Raises:
        LabelError: The classes are not those of `cityscapes_classes`.
    """
    if data.classes.names != cityscapes_classes().names:
        raise LabelError(
            "the classes are not the 28 of Cityscapes; bring the maps to them with "
            "`fewshot-smis labels remap`"
        )
    new_folder(folder)
    to_id = {IGNORE: 0, **dict(enumerate(IDS))}
    to_color = {IGNORE: 0, **dict(enumerate(COLORS))}
    count = 0
    for shot in data.shots:
        write_image(
            folder / f"{shot.name}_gtFine_labelIds.png",
            remap_ids(shot.label, to_id).astype(np.uint8),
        )
        packed = remap_ids(shot.label, to_color)
        rgb = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=2).astype(np.uint8)
        write_image(folder / f"{shot.name}_gtFine_color.png", rgb)
        count += 1
    if not count:
        raise DataError(f"{folder}: nothing to write")
    return count
