"""Palette PNGs (Pascal VOC's kind) and maps of plain colours, which say what their classes are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot_smis.data.classes import IGNORE, MAX_CLASSES, Classes, generic_colors
from fewshot_smis.data.files import atomic_write
from fewshot_smis.data.formats.base import (
    LabelSet,
    Request,
    Shot,
    find_maps,
    image_folder,
    new_folder,
    pictures_by_name,
)
from fewshot_smis.data.labels import UNKNOWN_COLOR, Ids, Stored, read_stored
from fewshot_smis.data.pairs import find_classes
from fewshot_smis.data.remap import remap_ids
from stylegan.errors import LabelError

MOST_COLORS = 64
"""More colours than this in maps without a palette come from smoothing."""


def read(request: Request) -> LabelSet:
    """Read maps below the source: palette indices are ids, or else each colour is a class.

    Classes are named by a classes.json where there is one, else generically, with the colours
    of the maps. Black comes first among colours. Pictures are in images/ or JPEGImages/.

    Raises:
        DataError: There are no maps.
        LabelError: A map is grey, or of more than MOST_COLORS colours.
    """
    files = find_maps(request.source)
    table: dict[int, int] = {}  # 0xRRGGBB -> id, for maps of colours
    seen: dict[int, int] = {}  # id -> 0xRRGGBB
    for path in files:
        stored = read_stored(path)
        values, first = _first_pixels(stored, path)
        if stored.ids is None:
            table.update(dict.fromkeys(values, 0))
        else:
            seen.update({v: c for v, c in zip(values, first, strict=True) if v != IGNORE})
    _check_number(table, request.source)
    table = {color: i for i, color in enumerate(sorted(table))}
    if table and seen:
        raise LabelError(f"{request.source}: some maps have a palette, some do not; convert apart")
    classes = find_classes(request.source) or _classes({i: c for c, i in table.items()} or seen)
    folder = image_folder(request.source, request.images, "images", "JPEGImages")
    pictures = pictures_by_name(folder)

    def shots() -> Iterator[Shot]:
        for path in files:
            stored = read_stored(path)
            ids = stored.ids if stored.colors is None or not table else None
            label = remap_ids(_colors(stored), table) if ids is None else ids
            yield Shot(path.stem, label, pictures.get(path.stem))

    return LabelSet(classes, shots())


def _colors(stored: Stored) -> Ids:
    return np.zeros((0, 0), np.int64) if stored.colors is None else stored.colors


def _first_pixels(stored: Stored, path: Path) -> tuple[list[int], list[int]]:
    """Return the ids (or colours, where there are none) of a map, and the colour of each."""
    colors = _colors(stored)
    if stored.is_grey:
        raise LabelError(
            f"{path}: grey, without a palette; its values are ids: use --format rgb-grey"
        )
    values, where = np.unique(colors if stored.ids is None else stored.ids, return_index=True)
    return [int(v) for v in values], [int(c) for c in colors.reshape(-1)[where]]


def _check_number(table: dict[int, int], source: Path) -> None:
    if len(table) > MOST_COLORS:
        raise LabelError(
            f"{source}: {len(table)} colours; the maps were smoothed or resized. Put a "
            "classes.json with the colours that are meant beside them, then run "
            f"`fewshot-smis labels remap {source} FOLDER --snap`"
        )


def _classes(colors: dict[int, int]) -> Classes:
    """Return generic classes with the colours of the ids, where those differ."""
    num = max(max(colors, default=0) + 1, 2)
    if num > MAX_CLASSES:
        raise LabelError(f"{num} classes; there are at most {MAX_CLASSES}")
    generic = Classes.generic(num)
    rgb = {i: (c >> 16, c >> 8 & 255, c & 255) for i, c in colors.items()}
    if len(set(rgb.values())) < len(rgb):
        return generic
    spare = [c for c in generic_colors(num + len(rgb)) if c not in rgb.values()]
    return Classes(generic.names, tuple(rgb[i] if i in rgb else spare.pop() for i in range(num)))


def write_palette(path: Path, ids: Ids, classes: Classes) -> None:
    """Write `ids` [H,W] as an indexed PNG in the colours of the classes, 255 as UNKNOWN_COLOR.

    Raises:
        DataError: The file cannot be written.
    """
    palette = np.zeros((IGNORE + 1, 3), np.uint8)
    palette[: classes.num_classes] = classes.colors
    palette[IGNORE] = UNKNOWN_COLOR
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(palette.flatten().tolist())
    with atomic_write(path) as file:
        image.save(file, format="PNG")


def write(folder: Path, data: LabelSet) -> int:
    """Write indexed PNGs; return how many."""
    new_folder(folder)
    count = 0
    for shot in data.shots:
        write_palette(folder / f"{shot.name}.png", shot.label, data.classes)
        count += 1
    return count
