"""ADE20K: the 150-class challenge maps, and the full data set's `*_seg.png` of encoded ids."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot_smis.data.classes import IGNORE, MAX_CLASSES, Classes
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
from fewshot_smis.data.labels import Ids, read_stored
from fewshot_smis.data.remap import remap_ids
from stylegan.errors import DataError, LabelError

_TEXT = (
    "wall, building, sky, floor, tree, ceiling, road, bed, window, grass, cabinet, sidewalk, "
    "person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, "
    "shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, "
    "bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, "
    "sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, display case, "
    "pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, "
    "toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, "
    "swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, "
    "awning, streetlight, booth, television, airplane, dirt track, apparel, pole, land, "
    "bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, "
    "conveyer belt, canopy, washer, toy, swimming pool, stool, barrel, basket, waterfall, tent, "
    "bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, "
    "bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, "
    "tray, trash can, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, "
    "glass, clock, flag"
)
NAMES = tuple(_TEXT.split(", "))
"""The classes of the challenge, ids 1 to 150; 0 is anything else."""


def ade20k_classes() -> Classes:
    """Return the 151 classes of the challenge maps, "other" first."""
    return Classes(("other", *NAMES))


def read_150(request: Request) -> LabelSet:
    """Read challenge maps (annotations/, ids 0 to 150); pictures are in images/, beside them.

    Raises:
        DataError: There are no maps.
        LabelError: One holds other ids.
    """
    root = request.source / "annotations"
    files = find_files(root if root.is_dir() else request.source, "*.png", "maps of 150 classes")
    folder = image_folder(request.source, request.images, "images")
    files = [p for p in files if folder is None or folder not in p.parents]
    pictures = pictures_by_name(folder)

    def shots() -> Iterator[Shot]:
        for path in files:
            ids = read_stored(path).ids
            if ids is None or ids.max() > len(NAMES):
                raise LabelError(
                    f"{path}: not a map of ids 0 to 150; for the full data set's encoded colours "
                    "(*_seg.png) use --format ade20k-full"
                )
            yield Shot(path.stem, ids, pictures.get(path.stem))

    return LabelSet(ade20k_classes(), shots())


def write_150(folder: Path, data: LabelSet) -> int:
    """Write challenge maps into annotations/; unknown pixels become 0. Return how many.

    Raises:
        LabelError: The classes are not those of `ade20k_classes`.
    """
    if data.classes.num_classes != len(NAMES) + 1:
        raise LabelError(
            f"{data.classes.num_classes} classes, but the challenge has 151; bring the maps to "
            "them with `fewshot-smis labels remap`"
        )
    annotations = new_folder(folder) / "annotations"
    annotations.mkdir()
    count = 0
    for shot in data.shots:
        ids = remap_ids(shot.label, {IGNORE: 0})
        write_image(annotations / f"{shot.name}.png", ids.astype(np.uint8))
        count += 1
    return count


def decode_ids(path: Path) -> Ids:
    """Return the ids [H,W] of a `*_seg.png`.

    The id is R // 10 * 256 + G; blue tells instances apart.

    Raises:
        DataError: The file cannot be read.
    """
    rgb = np.asarray(open_image(path).convert("RGB")).astype(np.int64)
    ids: Ids = rgb[..., 0] // 10 * 256 + rgb[..., 1]
    return ids


def _described(path: Path) -> dict[int, str]:
    """Return the names of ids that the description beside a `*_seg.png` gives, if it is there."""
    beside = path.with_name(path.name.replace("_seg.png", ".json"))
    if not beside.is_file():
        return {}
    try:
        objects = json.loads(beside.read_text(encoding="latin-1"))["annotation"]["object"]
        return {int(entry["name_ndx"]): str(entry["name"]) for entry in objects}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{beside}: not a description of ADE20K ({error}); copy the file again or remove it"
        ) from error


def read_full(request: Request) -> LabelSet:
    """Read `*_seg.png` files; the classes are those that occur, in the order of their ids.

    Names come from the .json beside each map. Id 0 is unknown.

    Raises:
        DataError: There are no maps.
        LabelError: More classes occur than a data set may have.
    """
    files = find_files(request.source, "*_seg.png", "files *_seg.png")
    names: dict[int, str] = {}
    used: set[int] = set()
    for path in files:
        used |= {int(value) for value in np.unique(decode_ids(path))}
        names.update(_described(path))
    kept = sorted(used - {0})
    if not 2 <= len(kept) <= MAX_CLASSES:
        raise LabelError(
            f"{request.source}: {len(kept)} classes occur; there have to be 2 to {MAX_CLASSES}: "
            "convert a folder with more pictures of fewer kinds"
        )
    titles = [names.get(i, f"class {i}").split(",")[0] for i in kept]
    unique = [t if titles.count(t) == 1 else f"{t} {i}" for t, i in zip(titles, kept, strict=True)]
    table = {0: IGNORE, **{old: new for new, old in enumerate(kept)}}
    pictures = pictures_by_name(request.images or request.source)

    def shots() -> Iterator[Shot]:
        for path in files:
            name = path.stem.removesuffix("_seg")
            yield Shot(name, remap_ids(decode_ids(path), table), pictures.get(name))

    return LabelSet(Classes(tuple(unique)), shots())
